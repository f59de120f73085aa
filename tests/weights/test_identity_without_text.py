"""A model has one identity: with the libraries of the extra `text`, without them, and with texts that they refuse."""

from __future__ import annotations

import copy
import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
import torch

import vitsmith as vs
from tests import REFERENCE
from tests.reference.open_clip.record import MODELS
from tests.weights.open_clip_files import folder_of, state_of
from vitsmith.data.text.pieces import count_sentence_pieces
from vitsmith.data.text.tokenizer_json import count_json_pieces
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.weights.bundle.bundle import Bundle

GEMMA: dict[str, Any] = json.loads((REFERENCE / "text" / "siglip2.json").read_bytes())
SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
PIECES = len(GEMMA["model"]["vocab"])


def added(content: str, number: int = PIECES) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokens = [*GEMMA["added_tokens"], {"id": number, "content": content, "special": True, **flags}]
    return {"added_tokens": tokens}


def model_of(kind: str, vocabulary: Any, **fields: Any) -> dict[str, Any]:
    return {"model": {"type": kind, "vocab": vocabulary, **fields}, "normalizer": None, "pre_tokenizer": None}


def listed(*more: str) -> list[tuple[str, float]]:
    return [(piece, 0.0) for piece in (*GEMMA["model"]["vocab"], *more)]


TWO_BEFORE = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": one, "type_id": 0}} for one in ("<bos>", "<eos>")]
    + [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": text, "type_id": 0}} for text in "AB"],
    "special_tokens": {
        one: {"id": one, "ids": [GEMMA["model"]["vocab"][one]], "tokens": [one]} for one in ("<bos>", "<eos>")
    },
}
READ = {
    "as published": {},
    "an added token": added("<new>"),
    "one that was there": added("<pad>", 0),
    "an added token without letters": added(""),
    "a piece twice": model_of("Unigram", listed("a"), unk_id=3),
    "two pieces of one number": model_of("WordLevel", GEMMA["model"]["vocab"] | {"<new>": 7}, unk_token="<unk>"),
}
REFUSED = {
    "an unknown pre-tokenizer": {"pre_tokenizer": {"type": "Newest"}},
    "an unknown normalizer": {"normalizer": {"type": "Newest"}},
    "an unknown model": model_of("Newest", GEMMA["model"]["vocab"]),
    "no unknown piece": model_of("WordLevel", GEMMA["model"]["vocab"]),
    "a piece twice, and one unknown": model_of("Newest", listed("a")),
    "two tokens before a text": {"post_processor": TWO_BEFORE},
}


def with_file(folder: Path, file: str, content: bytes, **config: Any) -> Callable[[], Bundle]:
    """How to load SigLIP of open_clip with a tokenizer's file beside it, whose tower has room for more."""
    described = copy.deepcopy(MODELS["siglip"])
    described["text_cfg"]["vocab_size"] = 814
    folder_of(folder, state_of("siglip"), described)
    (folder / file).write_bytes(content)
    (folder / "tokenizer_config.json").write_text(json.dumps(SPECIAL | config))
    return lambda: vs.load(folder)


@pytest.mark.parametrize("name", [*READ, *REFUSED])
def test_the_identity_is_the_same_without_the_library_of_tokenizers(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = GEMMA | (READ | REFUSED)[name]
    load = with_file(tmp_path, "tokenizer.json", json.dumps(changed).encode())
    bundle = load()
    assert bundle.text is not None
    if name in READ:
        assert bundle.text_identity
        assert count_json_pieces(changed) == tokenizers.Tokenizer.from_str(json.dumps(changed)).get_vocab_size(True)
    else:
        assert bundle.vocabulary is None and bundle.provenance.texts_refused
        with pytest.raises(InputError, match="reads no texts: "):
            _ = bundle.tokenizer
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    monkeypatch.setitem(sys.modules, "ftfy", None)
    without = load()
    assert (without.identity, without.text) == (bundle.identity, bundle.text)
    assert without.text is not None and without.text.pieces == count_json_pieces(changed)
    with pytest.raises(MissingPackageError, match=r"vitsmith\[text\]"):
        without.tokenizer("a cat")


def test_siglip_of_open_clip_loads_without_the_library_of_sentencepiece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = (REFERENCE / "text" / "siglip.model").read_bytes()
    special = {"pad_token": "</s>", "eos_token": "</s>", "mask_token": "<\uff5cm\uff5c>"}
    load = with_file(tmp_path, "spiece.model", model, tokenizer_class="SiglipTokenizer", **special)
    bundle = load()
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    monkeypatch.setitem(sys.modules, "ftfy", None)
    without = load()
    assert (without.identity, without.text) == (bundle.identity, bundle.text)
    with pytest.raises(MissingPackageError, match=r"needs sentencepiece, .*vitsmith\[text\]"):
        without.tokenizer("a cat")


@pytest.mark.parametrize("file", ["sentencepiece.model", "siglip.model", "siglip2.model"])
def test_pieces_of_sentencepiece_are_counted_without_its_library(file: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    model = (REFERENCE / "text" / file).read_bytes()
    assert count_sentence_pieces(model) == sentencepiece.SentencePieceProcessor(model_proto=model).get_piece_size()
    for damaged in (model[:-1], b"", b"\x80" * 20, b"version https://git-lfs.github.com/spec/v1\n"):
        with pytest.raises(InputError, match="is not a SentencePiece model"):
            count_sentence_pieces(damaged)


def test_a_bundle_is_saved_and_read_without_the_library_of_its_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "published").mkdir()
    load = with_file(tmp_path / "published", "tokenizer.json", json.dumps(GEMMA).encode())
    saved = vs.save(load(), tmp_path / "with")
    assert saved is not None and saved.golden is not None and saved.golden.texts is not None
    tokens = saved.tokenizer(["a photo of a cat"])
    embeddings = saved.run_texts_torch(tokens)
    monkeypatch.setitem(sys.modules, "tokenizers", None)

    kept = vs.save(vs.load(tmp_path / "with"), tmp_path / "kept")
    with pytest.warns(
        UserWarning, match=r"without golden texts, .*tokenizers.*pip install 'vitsmith\[text\]', and save"
    ):
        vs.save(load(), tmp_path / "without")
    assert kept is not None and kept.golden is not None and kept.golden.texts is not None
    for array in ("tokens", "embeddings"):
        np.testing.assert_allclose(getattr(kept.golden.texts, array), getattr(saved.golden.texts, array), atol=1e-6)
    for name in ("kept", "without"):
        encoder = vs.Encoder(tmp_path / name, "torch")
        np.testing.assert_allclose(encoder.tokens(tokens), embeddings, atol=1e-6)

    there = vs.load(tmp_path / "with")
    other = dataclasses.replace(there, vocabulary=json.dumps(GEMMA, indent=1).encode())
    with pytest.warns(UserWarning, match="without golden texts"):
        changed = vs.save(other, tmp_path / "changed")
    assert changed is not None and changed.golden is not None and changed.golden.texts is None
    assert changed.vocabulary == other.vocabulary
    with torch.no_grad():
        for weight in there.model.text.parameters():
            weight.mul_(1.5)
    moved = vs.save(there, tmp_path / "moved")
    assert moved is not None and moved.golden is not None and moved.golden.texts is not None
    np.testing.assert_array_equal(moved.golden.texts.tokens, saved.golden.texts.tokens)
    assert np.abs(moved.golden.texts.embeddings - saved.golden.texts.embeddings).max() > 1e-3

    monkeypatch.undo()
    for name in ("kept", "without", "changed", "moved"):
        bundle = vs.load(tmp_path / name)
        bundle.check_golden_texts(bundle.run_texts_torch)
