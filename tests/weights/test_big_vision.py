"""big_vision's files of two towers (SigLIP, SigLIP 2), however they are laid out: their answers against recorded ones.

`tests/reference/big_vision/record.py` ran big_vision's own loader and models.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import torch

from tests import REFERENCE
from tests.reference import fill
from tests.weights.foreign_files import loaded, refusal
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig
from vitsmith.models.lit import LiT
from vitsmith.models.presets import name_of
from vitsmith.specs import ImageSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.fetch.published import find_checkpoint
from vitsmith.weights.jax.config import infer_config
from vitsmith.weights.jax.names import slots_of_file
from vitsmith.weights.jax.stacked import unstacked
from vitsmith.weights.jax.vocabulary import GEMMA

RECORDED: dict[str, Any] = json.loads((REFERENCE / "big_vision" / "towers.json").read_text())
CASES, TOKENS = RECORDED["cases"], torch.tensor(RECORDED["tokens"])
LAYOUTS: dict[str, Any] = json.loads((REFERENCE / "big_vision" / "layouts.json").read_text())
TWICE = "txt/Encoder_0/pos_embedding"
TEXTS = REFERENCE / "text"
Arrays = dict[str, np.ndarray]


def value(name: str, shape: list[int]) -> np.ndarray:
    """As the script makes it: a stack holds the arrays of its blocks."""
    if "/encoderblock/" not in name:
        return fill.weight(name, tuple(shape))
    blocks = [name.replace("/encoderblock/", f"/encoderblock_{index}/") for index in range(shape[0])]
    return np.stack([fill.weight(block, tuple(shape[1:])) for block in blocks])


def arrays_of(case: str) -> Arrays:
    return {name: value(name, shape) for name, shape in CASES[case]["layout"].items()}


def written(path: Path, arrays: Arrays, prefix: str = "") -> Path:
    np.savez(path, **{f"{prefix}{name}": array for name, array in arrays.items()})  # type: ignore[arg-type]
    return path


def check_answers(bundle: Bundle, case: str, pictures: str = "") -> None:
    model, expected = bundle.model, CASES[case]
    assert isinstance(model, LiT) and model.logit_bias is not None
    images = torch.from_numpy(fill.image(pictures or case, 2, expected["side"])).permute(0, 3, 1, 2)
    with torch.no_grad():
        found = {"image": model.encode_image(images), "text": model.encode_text(TOKENS)}
        found |= {"t": model.temperature, "b": model.logit_bias}
        logits = model(images, TOKENS)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, torch.tensor(expected[name]), rtol=2e-6, atol=2e-6)
    image, text = torch.tensor(expected["image"]), torch.tensor(expected["text"])
    by_hand = image @ text.T * expected["t"][0] + expected["b"][0]
    torch.testing.assert_close(logits, by_hand, rtol=0, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/"])
@pytest.mark.parametrize("case", ["plain", "stacked", "without-projection"])
def test_answers_are_big_visions(case: str, prefix: str, tmp_path: Path) -> None:
    check_answers(loaded(written(tmp_path / "towers.npz", arrays_of(case), prefix)), case)


def test_blocks_in_a_stack_are_the_same_model(tmp_path: Path) -> None:
    plain = loaded(written(tmp_path / "plain.npz", arrays_of("plain")))
    stacked = loaded(written(tmp_path / "stacked.npz", arrays_of("stacked"), "params/"))
    assert plain.config == stacked.config and plain.weights_hash == stacked.weights_hash


def test_what_the_trainer_keeps_beside_the_weights_is_left_alone(tmp_path: Path) -> None:
    arrays = {f"params/{name}": array for name, array in arrays_of("plain").items()}
    arrays["opt/0/mu/img/embedding/kernel"] = np.zeros((8, 8, 3, 32), np.float32)
    check_answers(loaded(written(tmp_path / "towers.npz", arrays)), "plain")


def test_pixels_at_the_edge_that_fill_no_patch_are_not_seen(tmp_path: Path) -> None:
    """So400m/14 at 384 pixels has 27 x 27 patches: no array says that it is not 378."""
    path = written(tmp_path / "towers.npz", arrays_of("unseen-edge"))
    bundle = loaded(path, image_size=(38, 38))
    check_answers(bundle, "unseen-edge")
    assert bundle.preprocessing == ImageSpec.lit(38)
    assumed = loaded(path)
    assert assumed.config.image_size == (32, 32)
    assert "a square grid of 4x4 patches for images of 32x32 pixels (image_size= changes it)" in str(assumed.provenance)


def test_positions_move_to_another_size_as_big_vision_moves_them(tmp_path: Path) -> None:
    bundle = loaded(written(tmp_path / "towers.npz", arrays_of("plain")), image_size=(48, 48))
    check_answers(bundle, "enlarged")
    assert "positions of 4x4 patches were resized to 6x6, bilinear, corners aligned" in str(bundle.provenance.notes)


def test_text_positions_in_two_places_are_added(tmp_path: Path) -> None:
    arrays = arrays_of("plain")
    arrays[TWICE] = fill.weight(TWICE, arrays["txt/pos_embedding"].shape)
    check_answers(loaded(written(tmp_path / "towers.npz", arrays)), "positions-twice", "plain")


def test_towers_of_a_softmax_loss_have_no_bias(tmp_path: Path) -> None:
    bundle = loaded(written(tmp_path / "towers.npz", {k: v for k, v in arrays_of("plain").items() if k != "b"}))
    assert isinstance(bundle.config, LiTConfig) and not bundle.config.bias
    assert bundle.similarity is not None and bundle.similarity.bias is None


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({"img/MAPHead_0/probe": None}, r"no attention pooling \(img/MAPHead_0\)"),
        ({"txt/MAPHead_0/probe": np.zeros((1, 1, 24))}, "1 unexpected: txt/MAPHead_0/probe"),
        (
            {"img/Transformer/encoderblock/LayerNorm_0/scale": np.zeros((3, 32))},
            "15 missing: img/Transformer/encoderblock_2",
        ),
        ({"img/Transformer/encoderblock/LayerNorm_0/scale": np.zeros((1001, 32))}, "stacks 1,001 blocks"),
        ({"img/Transformer/encoderblock/LayerNorm_0/scale": None}, "2 missing: img/Transformer/encoderblock_0/Layer"),
        ({"img/pos_embedding": np.zeros((1, 15, 32))}, "15 patch positions do not form a square"),
        ({"t": None}, "not the arrays of a ViT, hybrid, Mixer or LiT"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, Any], problem: str, tmp_path: Path) -> None:
    arrays = {name: array for name, array in (arrays_of("stacked") | changed).items() if array is not None}
    message = refusal(written(tmp_path / "towers.npz", arrays))
    assert "towers.npz: " in message and re.search(problem, message), message


@pytest.mark.parametrize(
    ("size", "file", "expected"),
    [
        (
            62,
            "siglip.model",
            {"tokenizer": "sentencepiece", "padding": "end", "cleaning": ("ascii_lower",), "special_tokens": None},
        ),
        (
            GEMMA,
            "siglip2.model",
            {"tokenizer": "sentencepiece", "padding": "zero", "cleaning": ("ascii_lower",), "special_tokens": "end"},
        ),
        (
            GEMMA,
            "siglip2.json",
            {"tokenizer": "tokenizers", "padding": "zero", "cleaning": ("ascii_lower",), "special_tokens": "end"},
        ),
    ],
)
def test_rules_of_texts_follow_from_the_vocabulary(
    size: int, file: str, expected: dict[str, Any], tmp_path: Path
) -> None:
    arrays = arrays_of("plain") | {"txt/Embed_0/embedding": np.ones((size, 24), np.float32)}
    path = written(tmp_path / "towers.npz", arrays)
    vocabulary = (TEXTS / file).read_bytes()
    (tmp_path / f"towers{Path(file).suffix}").write_bytes(vocabulary)
    bundle = loaded(path)
    assert bundle.vocabulary == vocabulary and bundle.text is not None
    assert {name: getattr(bundle.text, name) for name in expected} == expected
    assert (bundle.text.length, bundle.text.pooling, bundle.text.vocabulary) == (6, "last", size)
    assert loaded(path, vocabulary=TEXTS / file).text == bundle.text


@pytest.mark.parametrize(("file", "padding"), [("siglip.model", 1), ("siglip2.model", 0), ("siglip2.json", 0)])
def test_tokens_are_those_of_big_visions_preprocessing(file: str, padding: int, tmp_path: Path) -> None:
    """`tokenize(max_len, eos="sticky", pad_value=1)` of pp/ops_text.py; `lower|tok(length, bos="no", eos="sticky")`."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(TEXTS / file.replace("json", "model")))
    size = pieces.get_piece_size()
    arrays = arrays_of("plain") | {"txt/Embed_0/embedding": np.ones((GEMMA if padding == 0 else size, 24), np.float32)}
    bundle = loaded(written(tmp_path / "towers.npz", arrays), vocabulary=TEXTS / file)
    assert bundle.text is not None and bundle.vocabulary is not None
    tokenizer = Tokenizer(bundle.text.model_copy(update={"vocabulary": size, "length": 8}), bundle.vocabulary)
    accents = "äö Straße" if file.endswith(".json") else "ÄÖ Straße"  # the recorded JSON lowers more than ASCII itself
    for text in ("A Photo of a CAT", "", accents, "word " * 30):
        lowered = "".join(letter.lower() if letter.isascii() else letter for letter in text)
        ids = [*pieces.encode(lowered)[:7], 1]
        assert tokenizer([text]).tolist() == [ids + [padding] * (8 - len(ids))], text


@pytest.mark.parametrize("tag", LAYOUTS)
def test_every_published_model_is_the_one_of_its_name(tag: str) -> None:
    row = find_checkpoint(tag)
    shapes, pieces = unstacked({name: tuple(shape) for name, shape in LAYOUTS[tag].items()})
    config = infer_config(shapes, image_size=(row.resolution, row.resolution))
    assert name_of(config) == row.model and config.image_size == (row.resolution, row.resolution)
    model, slots = build(config, device="meta"), slots_of_file(config, shapes)
    assert {
        name: slot.foreign_shape(model.get_parameter(slot.parameter).shape) for name, slot in slots.items()
    } == shapes
    assert {piece.array for piece in pieces.values()} < set(LAYOUTS[tag])


def test_an_image_tower_alone_is_refused_by_name(tmp_path: Path) -> None:
    arrays = {name[4:]: array for name, array in arrays_of("plain").items() if name.startswith("img/")}
    assert "image towers of big_vision are read within a file of two" in refusal(written(tmp_path / "i.npz", arrays))
