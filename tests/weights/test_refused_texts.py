"""A tokenizer whose rules are not followed refuses texts, in every verb, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitsmith as vs
from tests import REFERENCE
from tests.command_line import call
from tests.exporting import export_onnx
from tests.tiny import pictures
from tests.training.lit.small_runs import write_pairs
from tests.weights.hf_files import written_with_texts
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.errors import InputError, MissingPackageError

REASON = "truncation_side 'left', in its tokenizer_config.json, cannot be reproduced"
TOLD = rf"reads no texts: {REASON}; images are embedded as usual, and in Python Encoder\.tokens takes the tokens of"


def model(folder: Path) -> Path:
    """CLIP of transformers with a tokenizer that cuts texts at their beginning."""
    folder.mkdir()
    written_with_texts(folder, "clip", 814, 12)
    (folder / "tokenizer.json").write_bytes((REFERENCE / "text" / "clip.json").read_bytes())
    (folder / "tokenizer_config.json").write_text(json.dumps({"truncation_side": "left"}))
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "CLIPImageProcessor"}))
    return folder


def test_images_and_tokens_are_embedded_and_texts_refused_also_as_a_bundle_and_a_program(tmp_path: Path) -> None:
    bundle = vs.load(model(tmp_path / "hf"))
    assert (bundle.provenance.texts_refused, bundle.vocabulary) == (REASON, None)
    encoder, tokens = vs.Encoder(bundle), np.arange(24).reshape(2, 12)
    images, texts = encoder.images(pictures(2)), encoder.tokens(tokens)
    with torch.no_grad():
        expected = bundle.model.encode_text(torch.from_numpy(tokens))  # type: ignore[operator]
    np.testing.assert_allclose(texts, expected, atol=1e-5)
    vs.save(bundle.with_golden(pictures(1)), tmp_path / "saved")
    exported, _ = export_onnx(bundle, tmp_path / "onnx")
    for one in (bundle, vs.load(tmp_path / "saved"), exported, vs.load(tmp_path / "onnx")):
        other = vs.Encoder(one)
        np.testing.assert_allclose(other.images(pictures(2)), images, atol=1e-4)
        np.testing.assert_allclose(other.tokens(tokens), texts, atol=1e-4)
        with pytest.raises(InputError, match=TOLD):
            other.texts("a cat")
        with pytest.raises(InputError, match=TOLD):
            _ = one.text_identity
        with pytest.raises(InputError, match=TOLD):
            vs.ZeroShotClassifier(one, ["a cat", "a dog"])
    with pytest.raises(InputError, match=rf"^{tmp_path / 'saved'} {TOLD}"):
        vs.export(tmp_path / "saved", "web", out=tmp_path / "page", labels=["a cat", "a dog"])
    card = (tmp_path / "saved" / "README.md").read_text(encoding="utf-8")
    assert f"- Text: refused: {REASON}" in card.replace("\\", "") and "vs.Encoder(" in card


@pytest.mark.parametrize("kind", ["tokenizer.json", "vocab.json", "bundle"])
def test_without_the_library_of_tokenizers_it_is_the_same_model_and_embeds_images(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model(tmp_path / "hf")
    (folder / "tokenizer_config.json").unlink()
    described = json.loads((folder / "tokenizer.json").read_bytes())["model"]
    if kind == "vocab.json":
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.json").write_text(json.dumps(described["vocab"]))
        pairs = (pair if isinstance(pair, str) else " ".join(pair) for pair in described["merges"])
        (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]))
    if kind == "bundle":
        vs.save(vs.load(folder).with_golden(pictures(1)), tmp_path / "saved")
        folder = tmp_path / "saved"
    with_it = vs.Encoder(folder)
    images, identity, texts = with_it.images(pictures(2)), with_it.bundle.identity, with_it.bundle.text_identity
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    bundle = vs.load(folder)
    np.testing.assert_array_equal(vs.Encoder(bundle).images(pictures(2)), images)
    assert bundle.identity == identity
    with pytest.raises(MissingPackageError, match=r"needs tokenizers, .*: run  pip install 'vitsmith\[text\]'$"):
        vs.ZeroShotClassifier(bundle, ["a cat", "a dog"])
    monkeypatch.undo()
    assert vs.load(folder).text_identity == texts == bundle.text_identity


def test_what_was_refused_can_be_replaced_in_memory(tmp_path: Path) -> None:
    bundle = vs.load(model(tmp_path / "hf"))
    (tmp_path / "hf" / "tokenizer_config.json").unlink()
    known = vs.load(tmp_path / "hf")
    assert known.provenance.texts_refused == "" and isinstance(known.tokenizer, Tokenizer)
    own = dataclasses.replace(bundle, text=known.text, vocabulary=known.vocabulary)
    np.testing.assert_array_equal(own.tokenizer("a cat"), known.tokenizer(["a cat"]))


def test_the_commands_refuse_texts_in_one_line(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model(Path("hf"))
    write_pairs(Path("pairs"), 4)
    Path("texts.txt").write_text("a cat\na dog\n")
    Image.fromarray(pictures(1)[0]).save("cat.png")
    assert call(capsys, "embed", "hf", "cat.png", "--out", "index")[0] == 0
    assert call(capsys, "retrieve", "--images", "cat.png", "--index", "index")[0] == 0
    for command in (
        ("zeroshot", "hf", "cat.png", "--labels", "a cat, a dog"),
        ("retrieve", "a cat", "--index", "index"),
        ("embed", "hf", "--texts-file", "texts.txt", "--out", "words"),
        ("lit", "pairs/pairs.csv", "--set", "image.init=hf", "--set", "text.init=hf", "--set", "batch.size=2"),
    ):
        code, out, err = call(capsys, *command)
        assert (code, out) == (2, "") and f"reads no texts: {REASON}" in err.splitlines()[-1], (command, err)
    code, out, _ = call(capsys, "inspect", "hf")
    assert code == 0 and f"refused: {REASON}" in out
    facts = json.loads(call(capsys, "inspect", "hf", "--json")[1])
    assert facts["text"] == f"refused: {REASON}"
