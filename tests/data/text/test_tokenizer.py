"""Tokens against what the original's tokenizers gave, and what is refused."""

from __future__ import annotations

import json
from typing import Any, Literal

import numpy as np
import pytest

from tests.tiny import REFERENCE
from vitsmith.data.text.cleaning import canonicalize
from vitsmith.data.text.pieces import fold_case
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.errors import ConfigError, InputError
from vitsmith.text_spec import TextSpec

RECORDED = json.loads((REFERENCE / "text" / "tokens.json").read_text(encoding="utf-8"))
FILES = {"wordpiece": "vocabulary.txt", "sentencepiece": "sentencepiece.model"}
Kind = Literal["wordpiece", "sentencepiece"]


def vocabulary(kind: str) -> bytes:
    return (REFERENCE / "text" / FILES[kind]).read_bytes()


def open_tokenizer(kind: Kind, **fields: Any) -> Tokenizer:
    spec = TextSpec(**{"tokenizer": kind, "length": RECORDED["max_len"], "vocabulary": 180} | fields)
    return Tokenizer(spec, vocabulary(kind))


@pytest.mark.parametrize("kind", FILES)
def test_tokens_are_the_originals(kind: Kind) -> None:
    tokens = open_tokenizer(kind)(RECORDED["texts"])
    assert tokens.dtype == np.int32 and tokens.shape == (len(RECORDED["texts"]), 16)
    for text, ours, theirs in zip(RECORDED["texts"], tokens.tolist(), RECORDED[kind], strict=True):
        assert ours == theirs, text


@pytest.mark.parametrize("kind", FILES)
def test_texts_longer_than_the_context_are_named(kind: Kind) -> None:
    texts = RECORDED["texts"]
    wide = open_tokenizer(kind, length=64)(texts)
    filler = 0 if kind == "wordpiece" else 2
    longest = [len(np.trim_zeros(row - filler, "b")) + (filler == 2) for row in wide]
    assert open_tokenizer(kind).cut(texts) == [at for at, length in enumerate(longest) if length > 16]
    assert 11 in open_tokenizer(kind).cut(texts)  # 'one two three ... seventeen'


def test_the_end_token_is_always_last_where_it_is_pooled() -> None:
    for kind in ("wordpiece", "sentencepiece"):
        tokenizer = open_tokenizer(kind, padding="end", length=4)
        end = 4 if kind == "wordpiece" else 2  # [SEP], </s>
        tokens = tokenizer(["a photo of a cat and a dog", "a", ""])
        assert tokens[:, -1].tolist() == [end] * 3 and tokens[2].tolist() == [end] * 4
        assert tokens[1].tolist()[1:] == [end] * 3


def test_lower_case_is_a_rule_of_the_model() -> None:
    assert open_tokenizer("wordpiece")(["A Photo"]).tolist() == open_tokenizer("wordpiece")(["a photo"]).tolist()
    cased = open_tokenizer("wordpiece", lower_case=False)(["A Photo"])[0].tolist()
    assert cased[:4] == [3, 2, 2, 0]  # capitals are not in the vocabulary
    sentences = ["A PHOTO", "a photo"]
    one, other = open_tokenizer("sentencepiece")(sentences).tolist()
    assert one != other  # as in the original, which keeps capitals for SentencePiece
    one, other = open_tokenizer("sentencepiece", lower_case=True)(sentences).tolist()
    assert one == other


def test_canonical_text() -> None:
    assert canonicalize(" Red_Panda,  (Ailurus fulgens)! ") == "red panda ailurus fulgens"
    rule = open_tokenizer("wordpiece", canonicalize=True)
    assert rule(["A photo, of_a: CAT!"]).tolist() == open_tokenizer("wordpiece")(["a photo of a cat"]).tolist()


def test_case_folding_is_unicodes() -> None:
    # NFKC_Casefold and then no marks: values from Unicode's DerivedNormalizationProps.txt
    for text, expected in (
        ("Größe", "grosse"), ("ﬁne", "fine"), ("ÅNGSTRÖM", "angstrom"), ("Ⅻ", "xii"), ("\u017f", "s"),
        ("Σίσυφος", "σισυφοσ"), ("x\u200by", "xy"), ("\u00adsoft", "soft"), ("İstanbul", "istanbul"),
        ("\uff21\uff22\uff23", "abc"),
    ):  # fmt: skip
        assert fold_case(text) == expected


@pytest.mark.parametrize(
    ("kind", "given", "problem"),
    [
        ("wordpiece", b"\xff\xfe\x00", "not a text file"),
        ("wordpiece", b"a\nb\n", r"has no \[UNK\] and no \[CLS\]: it is not that of a WordPiece"),
        ("wordpiece", b"[UNK]\n[CLS]\na\na\n", "has 1 repeated pieces"),
        ("wordpiece", vocabulary("sentencepiece"), "not a text file|has no"),
        ("sentencepiece", vocabulary("wordpiece"), "not a SentencePiece model"),
        ("sentencepiece", b"", "not a SentencePiece model"),
    ],
)
def test_a_file_of_another_kind_is_refused(kind: Kind, given: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        Tokenizer(TextSpec(tokenizer=kind, length=8, vocabulary=180), given)


def test_a_vocabulary_larger_than_the_tower_is_refused() -> None:
    with pytest.raises(InputError, match="has 145 pieces and the text tower knows 100: give the file"):
        open_tokenizer("wordpiece", vocabulary=100)


def test_a_vocabulary_far_smaller_than_the_tower_is_refused_too() -> None:
    open_tokenizer("wordpiece", vocabulary=145 + 127)  # rounded up to a multiple of 128, perhaps
    with pytest.raises(InputError, match="has 145 pieces and the text tower knows 273"):
        open_tokenizer("wordpiece", vocabulary=145 + 128)


def test_bytes_of_another_encoding_are_refused() -> None:
    with pytest.raises(InputError, match=r"'caf\\udce9' is not Unicode text .*give it in UTF-8"):
        open_tokenizer("wordpiece")(["caf\udce9"])


def test_one_text_is_a_list_of_one_and_not_of_letters() -> None:
    tokenizer = open_tokenizer("wordpiece")
    np.testing.assert_array_equal(tokenizer("a cat"), tokenizer(["a cat"]))
    assert tokenizer.cut("a cat " * 30) == [0]


def test_the_specification_knows_what_belongs_together() -> None:
    word = TextSpec(tokenizer="wordpiece", vocabulary=10)
    assert (word.lower_case, word.padding, word.pooling, word.length) == (True, "zero", "first", 16)
    sentence = TextSpec(tokenizer="sentencepiece", vocabulary=10)
    assert (sentence.lower_case, sentence.padding, sentence.pooling) == (False, "end", "last")
    for fields, problem in (
        ({"tokenizer": "wordpiece", "padding": "end", "pooling": "first"}, "does not go with pooling"),
        ({"tokenizer": "sentencepiece", "padding": "zero"}, "no start token to pool"),
        ({"tokenizer": "wordpiece", "templates": ["a photo"]}, r"exactly one place for the label, \{\}"),
        ({"tokenizer": "wordpiece", "templates": ["{} {}"]}, "exactly one place"),
    ):
        with pytest.raises(ConfigError, match=problem):
            TextSpec(**{"vocabulary": 10} | fields)
