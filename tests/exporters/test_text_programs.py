"""CLIP's text tower as a program: causal attention and the end token's place, for each target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporting import export_executorch, export_onnx, export_openvino
from tests.tiny import pictures, tiny_clip
from vitsmith import Encoder, load, save
from vitsmith.engines.open import open_engine
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle

TEXTS = ["a photo of a cat", "b", "it's a very long text about the beach and the mountain, and about the sea", "猫"]
TARGETS: dict[str, Callable[..., Any]] = {
    "onnx": export_onnx,
    "openvino": export_openvino,
    "executorch": export_executorch,
}


@pytest.fixture(scope="module")
def clip() -> Bundle:
    return tiny_clip().with_golden(pictures(2))


@pytest.mark.parametrize("target", TARGETS)
def test_a_program_gives_the_answers_of_the_tower(target: str, clip: Bundle, tmp_path: Path) -> None:
    exported, verdict = TARGETS[target](clip, tmp_path / target)
    assert verdict.passed and verdict.num_texts > 0
    engine = open_engine(load(exported.folder))
    tokens = clip.tokenizer(TEXTS)
    padded_with_the_end = np.where(tokens == 0, clip.text.vocabulary - 1, tokens).astype(np.int32)
    for rows in (tokens, tokens[1:2], padded_with_the_end):
        np.testing.assert_allclose(engine.run_texts(rows), clip.run_texts_torch(rows), rtol=0, atol=1e-5)
    np.testing.assert_allclose(Encoder(load(exported.folder)).texts(TEXTS), Encoder(clip).texts(TEXTS), atol=1e-5)


def test_padding_with_the_end_token_gives_the_same_vectors(clip: Bundle) -> None:
    tokens = clip.tokenizer(TEXTS)
    padded = np.where(tokens == 0, clip.text.vocabulary - 1, tokens).astype(np.int32)
    assert (tokens != padded).any()
    np.testing.assert_allclose(clip.run_texts_torch(padded), clip.run_texts_torch(tokens), rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_mask_of_minus_infinity_keeps_half_precision_finite(precision: str, clip: Bundle, tmp_path: Path) -> None:
    exported, verdict = export_openvino(clip, tmp_path / "half", spec=ProgramSpec(precision=precision))
    assert verdict.passed and verdict.cosine > 0.999
    assert np.isfinite(Encoder(load(exported.folder)).texts(TEXTS)).all()


def test_a_bundle_keeps_its_vocabulary_and_its_rules(clip: Bundle, tmp_path: Path) -> None:
    save(clip, tmp_path / "clip")
    assert (tmp_path / "clip" / "tokenizer.bpe").read_bytes() == clip.vocabulary
    loaded = load(tmp_path / "clip")
    assert loaded.text == clip.text and loaded.config == clip.config and loaded.identity == clip.identity
    assert loaded.text_identity == clip.text_identity
    np.testing.assert_array_equal(Encoder(loaded).texts(TEXTS), Encoder(clip).texts(TEXTS))
