"""A bundle comes back as it was saved, or says what was done to it; and nothing half-written is ever seen."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tiny import CONFIGS, VIT, pictures, tiny_inputs, tiny_model
from vitsmith import Bundle, ImageSpec, Labels, Measurement, Provenance, load, save
from vitsmith.engines.open import open_engine
from vitsmith.errors import BundleError, InputError, NotFiniteError, OutputError, UnknownNameError, WeightsError
from vitsmith.models.build import build
from vitsmith.weights.bundle.folder import read_bundle, record_measurements

TOP1 = Measurement(metric="top1", value=0.912, data="pets, test", machine="a laptop", low=0.9, high=0.92)


@pytest.fixture
def bundle() -> Bundle:
    made = Bundle.of(
        tiny_model(VIT),
        preprocessing=ImageSpec.pillow((16, 24), mean=(0.4, 0.5, 0.6), resize="squash"),
        labels=Labels(names=("Käse", "日本", "a b", '"quoted"', "five")),
        provenance=Provenance(source="a test", parent="B_16.npz", notes=("seeded noise",)),
        measurements=(TOP1, Measurement(metric="latency", value=1.25e300, unit="ms")),
    )
    return made.with_golden(pictures(2))


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    save(bundle, tmp_path / "model")
    return tmp_path / "model"


def change_weights(folder: Path, factor: float) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({**weights, "head.weight": weights["head.weight"] * factor}, folder / "model.safetensors")


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path != folder)


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_bundle_comes_back_as_it_was(bundle: Bundle, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "bundle.json", "golden.safetensors", "model.safetensors",
    ]  # fmt: skip
    loaded = load(folder)
    for field in ("config", "preprocessing", "labels", "text", "provenance", "measurements", "program"):
        assert getattr(loaded, field) == getattr(bundle, field)
    assert loaded.folder == folder and not loaded.model.training
    images = tiny_inputs(VIT, 2)[0]
    torch.testing.assert_close(loaded.model(images), bundle.model(images), rtol=0, atol=0)
    assert all(np.array_equal(a, b) for a, b in zip(loaded.golden.images, bundle.golden.images, strict=True))


@pytest.mark.parametrize("name", ["mixer", "hybrid-stages", "lit-bert-projected", "lit-transformer", "vit-timm"])
def test_a_model_alone_becomes_a_bundle_of_its_family(name: str, tmp_path: Path) -> None:
    model, inputs = tiny_model(CONFIGS[name]), tiny_inputs(CONFIGS[name], 2)
    saved = save(model, tmp_path / "model")
    loaded = load(tmp_path / "model")
    lit = name.startswith("lit")
    assert saved.folder == tmp_path / "model" and loaded.config == CONFIGS[name] and len(loaded.golden.images) == 2
    assert loaded.preprocessing == (ImageSpec.lit((16, 24)) if lit else ImageSpec.original(CONFIGS[name].image_size))
    assert (loaded.text is not None) == lit
    torch.testing.assert_close(loaded.model(*inputs), model(*inputs), rtol=0, atol=0)


def test_a_bundle_gives_features_without_its_head(folder: Path) -> None:
    images = tiny_inputs(VIT, 2)[0]
    headless = load(folder, headless=True)
    assert headless.classes == 0 and headless.labels is None
    torch.testing.assert_close(headless.model(images), load(folder).model.features(images).pooled, rtol=0, atol=5e-6)


def test_measurements_are_added_and_newer_ones_take_the_place_of_older(bundle: Bundle, folder: Path) -> None:
    newer = TOP1.model_copy(update={"value": 0.95})
    record_measurements(load(folder), [newer])
    assert load(folder).measurements == (
        bundle.measurements[1],
        newer.model_copy(update={"program": "torch", "precision": "fp32"}),
    )
    assert "- top1: 0.95 [0.9, 0.92] (pets, test, a laptop)" in (folder / "README.md").read_text(encoding="utf-8")
    with pytest.raises(BundleError, match="not a bundle on disk"):
        record_measurements(bundle, [newer])


def test_the_card_says_what_it_is(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    card = (folder / "README.md").read_text(encoding="utf-8")
    for line in (
        "# ViT of width 32, depth 2, patch 8x8 at 16x24",
        'predictor = vs.Predictor("path/to/this/folder")',
        "- Input: RGB, 16x24, squashed (bicubic, antialiased), mean (0.4, 0.5, 0.6), std (0.5, 0.5, 0.5)",
        '- Classes: 5 (Käse, 日本, a b, "quoted", five)',
        "- Source: a test",
        "- Made from: B_16.npz",
        "- Note: seeded noise",
        "- top1: 0.912 [0.9, 0.92] (pets, test, a laptop)",
        "- latency: 1.25e+300 ms",
    ):
        assert line in card.splitlines()
    save(tiny_model(CONFIGS["lit-bert"]), tmp_path / "lit")
    lit = (tmp_path / "lit" / "README.md").read_text()
    assert "Predictor" not in lit and "vs.Encoder(" in lit and "ZeroShotClassifier" not in lit  # it has no vocabulary
    assert "None yet: `vitsmith evaluate --record` writes them." in lit


# --- what was done to it ---------------------------------------------------------------------------------------------


def test_a_changed_byte_is_noticed_in_every_file(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for place in (len(content) // 3, len(content) // 2, len(content) - 3):
            changed = bytearray(content)
            changed[place] ^= 0x02
            path.write_bytes(changed)
            if path.name == "README.md":  # words for people, which they may edit
                load(folder)
                continue
            with pytest.raises(BundleError, match=path.name):
                load(folder)
        path.write_bytes(content)
    _ = load(folder).model


@pytest.mark.parametrize("name", ["model.safetensors", "golden.safetensors", "bundle.json"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises((BundleError, WeightsError), match=name):
        load(folder)


def edited(folder: Path, **fields: Any) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"format": 3}, r"has format 3, and vitsmith [\d.]+ reads formats 1 to 2: a newer version .*pip install -U"),
        ({"format": None}, r"does not describe a bundle \(its format is None\)"),
        ({"labels": None}, "was changed after it was written"),
        ({"surprise": 1}, "was changed after it was written"),
        ({"checksum": ""}, "was changed after it was written"),
    ],
)
def test_an_edited_description_is_refused(fields: dict[str, Any], problem: str, folder: Path) -> None:
    edited(folder, **fields)
    with pytest.raises(BundleError, match=rf"bundle\.json {problem}"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"null", b'{"format": 1}'])
def test_a_description_that_is_none_is_refused(content: bytes, folder: Path) -> None:
    (folder / "bundle.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json") as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_other_weights_fail_the_golden_check_every_time(folder: Path) -> None:
    change_weights(folder, 1.0001)
    bundle = load(folder, verify=False)
    _ = bundle.model  # another processor's rounding is allowed
    change_weights(folder, 1.1)
    with pytest.raises(BundleError, match=r"SHA-256 differs"):
        load(folder)
    bundle = load(folder, verify=False)
    for _ in range(2):
        with pytest.raises(BundleError, match=r"golden images give other answers here .*relative difference 0\.\d"):
            _ = bundle.model
    change_weights(folder, math.nan)
    with pytest.raises(NotFiniteError, match=r"model\.safetensors has weights that are not finite"):
        _ = load(folder, verify=False).model


@pytest.mark.parametrize(
    "images",
    [ImageSpec.original((16, 24)), ImageSpec.pillow((16, 24), mean=(0.4, 0.5, 0.61), resize="squash")],
    ids=["resize", "mean"],
)
def test_other_preprocessing_fails_the_golden_check(images: ImageSpec, folder: Path) -> None:
    bundle = dataclasses.replace(load(folder), preprocessing=images)
    with pytest.raises(BundleError, match=r"golden image 0 is preprocessed differently here"):
        _ = bundle.model


def test_a_bundle_whose_folder_has_gone_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    loaded = load(folder.name)
    exported = dataclasses.replace(loaded, program="onnx")
    monkeypatch.chdir("/")
    for use in (lambda: loaded.model, lambda: open_engine(exported, "onnx"), lambda: open_engine(exported, "openvino")):
        with pytest.raises(BundleError, match=f"^{folder.name} no longer exists: .* the working folder"):
            use()
    gone = dataclasses.replace(loaded, folder=folder.with_name("gone"))
    with pytest.raises(BundleError, match="gone no longer exists: it was moved or deleted; load the bundle"):
        _ = gone.model


def test_weights_of_another_model_are_refused(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight for name, weight in weights.items() if name != "norm.bias"}, folder / "model.safetensors")
    with pytest.raises(BundleError, match=r"model\.safetensors: arrays do not fit bundle\.json: norm\.bias"):
        _ = load(folder, verify=False).model
    save_file({**weights, "head.weight": weights["head.weight"][:1].clone()}, folder / "model.safetensors")
    with pytest.raises(BundleError, match=r"model\.safetensors: head\.weight is 1x32, expected 5x32"):
        _ = load(folder, verify=False).model
    (folder / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(BundleError, match=r"model\.safetensors cannot be read"):
        _ = load(folder, verify=False).model


def test_descriptions_that_contradict_the_model_are_refused() -> None:
    with pytest.raises(BundleError, match="3 label names for 5 classes"):
        Bundle.of(tiny_model(VIT), labels=Labels(names=("a", "b", "c")))
    with pytest.raises(BundleError, match=r"preprocessing gives \(24, 16\) images, the model takes \(16, 24\)"):
        Bundle.of(tiny_model(VIT), preprocessing=ImageSpec.original((24, 16)))


def test_what_is_no_bundle_says_so(tmp_path: Path, folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    with pytest.raises(BundleError, match=r"is not a bundle: it has no bundle\.json"):
        read_bundle(tmp_path)
    with pytest.raises(WeightsError, match=r"neither bundle\.json .* nor config\.json"):
        load(folder.parent / "empty")
    with pytest.raises(WeightsError, match="is not Mixer-B_16"):
        load(folder, name="Mixer-B/16")


# --- writing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["save_file", "write_golden", "manifest_of", "interrupt", "rename"])
def test_a_failed_save_leaves_the_old_bundle(
    fails: str, bundle: Bundle, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    stopped: BaseException = KeyboardInterrupt() if fails == "interrupt" else OSError(28, "No space left on device")

    def stop(*_: Any, **__: Any) -> None:
        raise stopped

    rename = Path.rename
    if fails == "rename":
        monkeypatch.setattr(
            Path, "rename", lambda path, target: stop() if path.parent.suffix == ".partial" else rename(path, target)
        )
    else:
        place = {"save_file": "safetensors.torch.save_file", "interrupt": "vitsmith.weights.bundle.folder.model_card"}
        monkeypatch.setattr(place.get(fails, f"vitsmith.weights.bundle.folder.{fails}"), stop)
    with pytest.raises(KeyboardInterrupt if fails == "interrupt" else OutputError):
        save(bundle, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert left_behind(folder) == []


def test_a_bundle_replaces_a_bundle_and_nothing_else(bundle: Bundle, folder: Path, tmp_path: Path) -> None:
    renamed = dataclasses.replace(bundle, labels=Labels(names=tuple("abcde")))
    save(renamed, folder)
    assert load(folder).labels.names == tuple("abcde") and left_behind(folder) == []
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"precious")
    with pytest.raises(OutputError, match="photos holds files that are no bundle and would be lost"):
        save(bundle, tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"precious"
    with pytest.raises(OutputError, match=r"cat\.jpg is a file; choose another output folder"):
        save(bundle, tmp_path / "photos" / "cat.jpg")
    with pytest.raises(OutputError, match="cannot write"):
        save(bundle, tmp_path / "photos" / "cat.jpg" / "below")
    (tmp_path / "empty").mkdir()
    save(bundle, tmp_path / "empty")
    assert load(tmp_path / "empty").labels == bundle.labels


def test_a_bundle_may_be_saved_over_itself_or_moved(folder: Path, tmp_path: Path) -> None:
    images = tiny_inputs(VIT, 2)[0]
    expected = load(folder).model(images)
    save(load(folder), folder)
    shutil.move(folder, tmp_path / "elsewhere")
    torch.testing.assert_close(load(tmp_path / "elsewhere").model(images), expected, rtol=0, atol=0)


def test_save_gives_npz_on_request_and_refuses_other_formats(tmp_path: Path) -> None:
    model = tiny_model(VIT)
    assert save(model, tmp_path / "weights", format="npz") is None
    loaded = load(tmp_path / "weights.npz", image_size=(16, 24))
    torch.testing.assert_close(loaded.model.head.weight, model.head.weight)
    assert loaded.provenance.kind == "jax-npz" and loaded.preprocessing == ImageSpec.original((16, 24))
    with pytest.raises(UnknownNameError, match="unknown format 'pickle'"):
        save(model, tmp_path / "weights", format="pickle")
    with pytest.raises(InputError, match="no such file or folder"):
        load(tmp_path / "nothing.npz")


def test_a_fresh_model_can_be_saved(tmp_path: Path) -> None:
    assert not save(build(VIT), tmp_path / "fresh").golden.outputs.any()
    assert not load(tmp_path / "fresh").model(tiny_inputs(VIT, 1)[0]).any()
