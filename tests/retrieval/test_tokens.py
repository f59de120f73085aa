"""The class token and the patches of images: whose values they are, how they are kept, and where there are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import CONFIGS, MIXER, VIT, pictures, tiny_lit, tiny_model, towers
from vitsmith.data.images.preprocess import preprocess
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.models.config import ModelConfig
from vitsmith.models.configure import change
from vitsmith.retrieval import writer
from vitsmith.retrieval.description import Space
from vitsmith.retrieval.index import open_index
from vitsmith.retrieval.search import search

PICTURES = pictures(3)
MODELS: dict[str, ModelConfig] = {
    name: config for name, config in CONFIGS.items() if name in ("vit-distilled", "vit-timm", "mixer", "hybrid-stem")
}
MODELS |= towers()


def tokens_of(bundle: vs.Bundle) -> np.ndarray:
    model = getattr(bundle.model, "image", bundle.model)
    images = np.stack([preprocess(picture, bundle.preprocessing) for picture in PICTURES])
    with torch.inference_mode():
        return model.features(torch.from_numpy(images)).tokens.numpy()


@pytest.mark.parametrize("name", MODELS)
def test_they_are_those_of_the_models_features(name: str) -> None:
    config = MODELS[name]
    bundle = vs.Bundle.of(tiny_model(config))
    tokens, before = tokens_of(bundle), getattr(config, "prefix", 0)
    encoder = vs.Encoder(bundle, what="patches", batch_size=2)
    found = encoder.images(PICTURES)
    rows, columns = config.grid
    assert found.shape == (3, rows, columns, encoder.width) and encoder.grid == (rows, columns)
    for row in range(rows):
        for column in range(columns):
            expected = tokens[:, before + row * columns + column]
            np.testing.assert_allclose(found[:, row, column], expected, atol=1e-5)
    if not getattr(config, "class_token", False):
        with pytest.raises(InputError, match=r"has no class token: give 'patches', or 'pooled'"):
            vs.Encoder(bundle, what="class")
        return
    vectors = vs.Encoder(bundle, what="class").images(PICTURES)
    expected = tokens[:, 0] / np.linalg.norm(tokens[:, 0], axis=1, keepdims=True)
    np.testing.assert_allclose(vectors, expected, atol=1e-6)


def test_the_image_tower_of_two_gives_them_before_its_projection() -> None:
    bundle = tiny_lit("lit-bert-projected")
    tokens = tokens_of(bundle)
    encoder = vs.Encoder(bundle, what="class")
    assert encoder.width == 32 and not encoder.reads_text
    np.testing.assert_allclose(
        encoder.images(PICTURES), tokens[:, 0] / np.linalg.norm(tokens[:, :1], axis=2), atol=1e-6
    )
    np.testing.assert_allclose(
        vs.Encoder(bundle, what="patches").images(PICTURES).reshape(3, 6, 32), tokens[:, 1:], atol=1e-5
    )
    with pytest.raises(InputError, match="texts have one embedding, which compares with the pooled one of images, not"):
        encoder.texts(["a cat"])


def test_a_model_that_gives_all_tokens_gives_its_patches_alone() -> None:
    bundle = vs.Bundle.of(tiny_model(change(VIT, pooling="token_unpooled", classes=0)))
    found = vs.Encoder(bundle, what="patches").images(PICTURES)
    np.testing.assert_allclose(found.reshape(3, 6, 32), tokens_of(bundle)[:, 1:], atol=1e-5)
    with pytest.raises(InputError, match="gives a feature for each patch, not one for an image: ask for patches"):
        vs.Encoder(bundle)


def test_where_there_are_none_is_said(tmp_path: Path) -> None:
    bundle = vs.save(vs.Bundle.of(tiny_model(change(VIT, classes=0))), tmp_path / "vit")
    assert bundle is not None
    exported, _ = export_onnx(bundle, tmp_path / "onnx")
    for what in ("class", "patches"):
        with pytest.raises(InputError, match="exported program, which gives the pooled feature alone: give the bundle"):
            vs.Encoder(exported, what=what)
    with pytest.raises(InputError, match="engine 'torch-compiled' gives the pooled feature alone: 'class' needs"):
        vs.Encoder(bundle, "torch-compiled", what="class")
    with pytest.raises(UnknownNameError, match="unknown embedding 'patch'"):
        vs.Encoder(bundle, what="patch")  # type: ignore[arg-type]
    merged = vs.Bundle.of(tiny_model(change(VIT, merge=(1, 1))))
    with pytest.raises(InputError, match="merges tokens, so its patches are not all there at the end"):
        vs.Encoder(merged, what="patches")
    np.testing.assert_allclose(np.linalg.norm(vs.Encoder(merged, what="class").images(PICTURES), axis=1), 1, atol=1e-6)
    assert vs.Encoder(vs.Bundle.of(tiny_model(MIXER)), what="patches").images([]).shape == (0, 2, 3, 32)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with three photos and the model 'registers'."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(PICTURES):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    vs.save(vs.Bundle.of(tiny_model(towers()["registers"])), tmp_path / "registers")
    return tmp_path


def test_the_command_writes_patches_with_their_grid(place: Path, capsys: Any) -> None:
    patches = vs.Encoder(place / "registers", what="patches").images(PICTURES)
    command = ("embed", "registers", "photos", "--what", "patches", "--out")
    code, out, _ = call(capsys, *command, "patches.npz", "--dtype", "float32", "--json")
    facts = json.loads(out)
    assert code == 0 and (facts["what"], facts["grid"], facts["width"]) == ("patches", [3, 5], 48)
    with np.load("patches.npz") as file:
        np.testing.assert_allclose(file["embeddings"], patches, atol=1e-6)
        assert file["ids"].tolist() == [f"photos/{number}.png" for number in range(3)]
    assert call(capsys, *command, "patches.npy")[0] == 0
    np.testing.assert_allclose(np.load("patches.npy"), patches, atol=4e-3)
    assert call(capsys, *command, "patches.parquet")[0] == 0
    table = pq.read_table("patches.parquet")
    assert table.schema.metadata[b"vitsmith.shape"] == b"3x5x48"
    flat = np.array(table["embedding"].to_pylist(), np.float32)
    np.testing.assert_allclose(flat.reshape(patches.shape), patches, atol=4e-3)


def test_an_index_of_patches_goes_on_and_is_not_searched(
    place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "PART_NUMBERS", 3 * 5 * 48 * 2)
    command = ("embed", "registers", "photos/0.png", "photos/1.png", "photos/2.png")
    code, out, _ = call(capsys, *command[:-1], "--out", "index", "--what", "patches")
    assert code == 0 and "3x5 patches of 48 numbers, float16" in out
    assert call(capsys, *command, "--out", "index", "--what", "patches")[0] == 0
    index = open_index("index")
    assert [part.rows for part in index.description.parts] == [2, 1]
    np.testing.assert_allclose(
        index.rows([0, 1, 2]), vs.Encoder(place / "registers", what="patches").images(PICTURES), atol=4e-3
    )
    code, _, err = call(capsys, *command, "--out", "index")
    assert code == 2 and "index has patches and cannot be continued with pooled" in err
    code, _, err = call(capsys, "retrieve", "--index", "index", "--images", "photos/1.png")
    assert code == 2 and "index holds patches, to be read as arrays, and a search needs one vector of each image" in err
    code, _, err = call(capsys, "retrieve", "--index", "index", "--build-approximate")
    assert code == 2 and "index holds patches" in err
    with pytest.raises(InputError, match="index holds patches"):
        search(index, np.zeros((1, 48), np.float32))


def test_an_index_of_class_tokens_is_searched_by_class_tokens(place: Path, capsys: Any) -> None:
    vs.save(vs.Bundle.of(tiny_model(change(towers()["registers"], pooling="gap", class_token=True))), place / "gap")
    assert call(capsys, "embed", "gap", "photos", "--out", "index", "--what", "class")[0] == 0
    vectors = vs.Encoder(place / "gap", what="class").images(PICTURES)
    pooled = vs.Encoder(place / "gap").images(PICTURES)
    assert np.abs(vectors - pooled).max() > 0.1
    _, out, _ = call(capsys, "retrieve", "--index", "index", "--images", "photos/1.png", "--json")
    best = json.loads(out)["results"][0]
    assert best["id"] == "photos/1.png" and best["score"] == pytest.approx(1, abs=1e-3)


def test_texts_have_no_tokens_of_images(place: Path, capsys: Any) -> None:
    code, _, err = call(capsys, "embed", "registers", "--what", "class", "--texts-file", "texts.txt", "--out", "x")
    assert (code, len(err.splitlines())) == (2, 1) and "--what class is for images, and a text has one vector" in err


def test_values_beyond_float16_are_refused(tmp_path: Path) -> None:
    space = Space(kind="images", identity="a" * 32, model="ours", width=2, what="patches", grid=(1, 1))
    message = "patches of 'a.jpg' have values beyond float16: embed with --dtype float32"
    with pytest.raises(InputError, match=message), writer.IndexWriter(tmp_path / "index", space) as index:
        index.add(("a.jpg", np.array([[[1.0, 70_000.0]]], np.float32)))
        index.finish()


def test_an_index_of_pooled_features_is_written_as_before(tmp_path: Path) -> None:
    vs.write_index(vs.Encoder(vs.Bundle.of(tiny_model(VIT))), PICTURES, tmp_path / "index")
    space = json.loads((tmp_path / "index" / "index.json").read_text())["space"]
    assert set(space) == {"kind", "identity", "model", "engine", "precision", "width", "dtype"}
