"""Embeddings: whose they are, of which length, and of what they are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.exporting import export_onnx
from tests.tiny import CONFIGS, MIXER, VIT, pictures, tiny_lit, tiny_model
from vitsmith import Bundle, Encoder, load, save
from vitsmith.data.images.preprocess import preprocess
from vitsmith.engines.torch.engine import TorchEngine
from vitsmith.errors import BundleError, ImageError, InputError, UnknownNameError
from vitsmith.models.configure import change
from vitsmith.stream import Failure

PICTURES = pictures(5)


def tensors(bundle: Bundle) -> torch.Tensor:
    return torch.from_numpy(np.stack([preprocess(picture, bundle.preprocessing) for picture in PICTURES]))


@pytest.mark.parametrize("config", [VIT, MIXER, change(VIT, representation=20), change(VIT, classes=0)])
def test_other_models_give_the_feature_before_the_head(config: Any) -> None:
    bundle = Bundle.of(tiny_model(config))
    with torch.inference_mode():
        pooled = bundle.model.features(tensors(bundle)).pooled.numpy()
    encoder = Encoder(bundle, batch_size=2)
    found = encoder.images(PICTURES)
    assert found.shape == (5, encoder.width) and found.dtype == np.float32 and not encoder.reads_text
    np.testing.assert_allclose(found, pooled / np.linalg.norm(pooled, axis=1, keepdims=True), atol=1e-6)
    with pytest.raises(InputError, match="is a model of images alone: it cannot read text"):
        encoder.texts(["a cat"])
    with pytest.raises(InputError, match="is a model of images alone: it cannot read text"):
        encoder.tokens(np.zeros((1, 6), np.int32))


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("lit")])
def test_lit_gives_the_output_of_both_towers(name: str) -> None:
    bundle = tiny_lit(name)
    encoder = Encoder(bundle, batch_size=2)
    texts = ["a photo of the cat", "a", "red"] * 90  # more than one batch
    with torch.inference_mode():
        images = bundle.model.image(tensors(bundle))
        words = bundle.model.text(torch.from_numpy(bundle.tokenizer(texts)))
    for found, expected in ((encoder.images(PICTURES), images), (encoder.texts(texts), words)):
        assert found.shape == (len(expected), encoder.width)
        np.testing.assert_allclose(found, torch.nn.functional.normalize(expected, dim=1).numpy(), atol=1e-6)
    assert encoder.texts([]).shape == encoder.images([]).shape == (0, encoder.width)
    assert np.array_equal(encoder.images(PICTURES[0]), encoder.images(PICTURES[:1]))


def test_unreadable_images_are_told_in_their_place(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"")
    sources = [PICTURES[0], str(tmp_path / "broken.jpg"), PICTURES[1]]
    encoder = Encoder(tiny_lit(), batch_size=2)
    first, broken, last = encoder.stream(sources)
    assert isinstance(broken, Failure) and broken.source.endswith("broken.jpg")
    expected = encoder.images([PICTURES[0], PICTURES[1]])
    np.testing.assert_allclose([first[1], last[1]], expected, atol=1e-6)
    assert (first[0], last[0]) == ("image 0", "image 2")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        encoder.images(sources)


def test_models_without_one_vector_for_an_image_are_refused(tmp_path: Path) -> None:
    for name in ("vit-unpooled", "vit-token-unpooled"):
        with pytest.raises(InputError, match="gives a feature for each patch"):
            Encoder(Bundle.of(tiny_model(CONFIGS[name])))
    exported, _ = export_onnx(Bundle.of(tiny_model(VIT)).with_golden(PICTURES[:2]), tmp_path / "onnx")
    with pytest.raises(BundleError, match="exported classifier, which does not give the features before its head"):
        Encoder(exported)
    with pytest.raises(BundleError, match="is an exported classifier"):
        load(tmp_path / "onnx", headless=True)


@pytest.mark.parametrize("wrong", [-1, 50, 2**32 + 2])
def test_token_ids_that_the_tower_does_not_know_are_refused(wrong: int, tmp_path: Path) -> None:
    exported, _ = export_onnx(tiny_lit(), tmp_path / "onnx")
    for bundle in (tiny_lit(), exported):
        with pytest.raises(InputError, match=rf"run from -?\d to {max(wrong, 2)}, and the text tower knows 0 to 49"):
            Encoder(bundle).tokens(np.array([[2, 0, 0, 0, 0, wrong]], np.int64))


def test_what_is_asked_of_an_engine_must_be_possible(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown precision 'fp4'"):
        Encoder(tiny_lit(), precision="fp4")
    with pytest.raises(InputError, match="threads must be a whole number from 1 to"):
        Encoder(tiny_lit(), threads=0)
    exported, _ = export_onnx(tiny_lit().with_golden(PICTURES[:2]), tmp_path / "onnx")
    with pytest.raises(InputError, match="cannot run in bf16: onnx runs it in fp32; openvino runs it in fp32 or bf16"):
        Encoder(exported, "onnx", precision="bf16")


def test_bfloat16_is_held_against_float32_where_nothing_golden_is() -> None:
    bundle = Bundle.of(tiny_model(VIT))
    run = TorchEngine.run
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TorchEngine, "run", lambda self, images: run(self, images) + 1)
        with pytest.raises(BundleError, match="bf16 is too coarse for this model, or goes wrong here; use fp32"):
            Encoder(bundle, precision="bf16")
    assert Encoder(bundle, precision="bf16").engine.precision == "bfloat16"


def test_texts_come_back_in_their_order_whatever_their_length() -> None:
    encoder = Encoder(tiny_lit())
    texts = ["a b c d e", "e", "cat", "a b", "dog", "red circle of the"] * 60
    apart = {text: encoder.texts([text])[0] for text in set(texts)}
    np.testing.assert_allclose(encoder.texts(texts), [apart[text] for text in texts], atol=1e-6)


def test_golden_answers_are_checked_in_bfloat16_too(tmp_path: Path) -> None:
    bundle = save(tiny_lit(), tmp_path / "model")
    Encoder(bundle, precision="bf16").texts(["cat"])
    weights = bundle.model.state_dict()["image.blocks.0.mlp.widen.bias"]
    weights += 1  # as if bfloat16 had gone wrong there
    with pytest.raises(BundleError, match=r"golden images give other answers here .* allowed 0\.05"):
        Encoder(bundle, precision="bf16")
    weights -= 1
    bundle.model.state_dict()["text.blocks.0.mlp.widen.bias"].add_(1)
    with pytest.raises(BundleError, match="golden texts give other answers here"):
        Encoder(bundle, precision="bf16").texts(["cat"])
