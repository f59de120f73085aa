"""Tokens of CLIP and SigLIP against those of open_clip and transformers, and their special tokens."""

from __future__ import annotations

import builtins
import gzip
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tokenizers
import tokenizers.models
import tokenizers.normalizers
import tokenizers.pre_tokenizers
import tokenizers.processors

from tests.tiny import REFERENCE
from vitsmith.data.text.byte_pairs import read_merges
from vitsmith.data.text.scripts import count_scripts
from vitsmith.data.text.tokenizer import Tokenizer
from vitsmith.data.text.tokenizer_json import clip_tokenizer_json
from vitsmith.errors import ConfigError, InputError, MissingPackageError
from vitsmith.text_spec import TextSpec
from vitsmith.weights.bundle.identity import canonical
from vitsmith.weights.bundle.summary import describe_text

FILES = REFERENCE / "text"
RECORDED = json.loads((FILES / "others.json").read_text())
LENGTH, TEXTS = RECORDED["length"], RECORDED["texts"]
CLIP, SIGLIP, GEMMA = (FILES / name for name in ("clip.bpe", "siglip.model", "siglip2.json"))
PIECES = 256 + 256 + 300 + 2
END = PIECES - 1

LAST_ZERO = {"padding": "zero", "pooling": "last"}
SOURCES: dict[str, tuple[str, dict[str, Any]]] = {
    "open_clip": ("clip.bpe", {"tokenizer": "bpe", "vocabulary": PIECES}),
    "hf_clip": ("clip.json", {"tokenizer": "tokenizers", "vocabulary": PIECES, "padding": "end", "pooling": "end"}),
    "hf_siglip": (
        "siglip.model",
        {"tokenizer": "sentencepiece", "vocabulary": 430, "cleaning": ("lower", "punctuation", "spaces")},
    ),
    "hf_siglip2": ("siglip2.json", {"tokenizer": "tokenizers", "vocabulary": 500, **LAST_ZERO}),
    "open_clip_siglip2": (
        "siglip2.json",
        {"tokenizer": "tokenizers", "vocabulary": 500, **LAST_ZERO, "cleaning": ("ftfy", "html", "canonical")},
    ),
}


def open_tokenizer(source: str, **fields: Any) -> Tokenizer:
    file, own = SOURCES[source]
    spec = TextSpec(**{"length": LENGTH} | own | fields)
    return Tokenizer(TextSpec.model_validate(canonical(spec)), (FILES / file).read_bytes())


@pytest.mark.parametrize("source", SOURCES)
def test_tokens_are_those_of_the_source(source: str) -> None:
    tokens = open_tokenizer(source)(TEXTS)
    for text, ours, theirs in zip(TEXTS, tokens.tolist(), RECORDED[source], strict=True):
        assert ours == theirs, text


def test_big_vision_reads_gemmas_own_file_and_lowers_ascii_alone() -> None:
    spec = TextSpec(
        tokenizer="sentencepiece", vocabulary=500, length=LENGTH, **LAST_ZERO, cleaning=("ascii_lower",)
    )  # fmt: skip
    ours = Tokenizer(spec, (FILES / "siglip2.model").read_bytes())(TEXTS)
    recorded = np.array(RECORDED["hf_siglip2"])
    lowered_alike = [at for at, text in enumerate(TEXTS) if text.lower() == "".join(map(_ascii_lower, text))]
    assert len(lowered_alike) == 29
    np.testing.assert_array_equal(ours[lowered_alike], recorded[lowered_alike])
    at = TEXTS.index("İstanbul ΣΊΣΥΦΟΣ Größe")
    assert ours[at].tolist() != recorded[at].tolist()


def _ascii_lower(letter: str) -> str:
    return letter.lower() if letter.isascii() else letter


def test_the_end_token_stays_when_a_text_is_cut() -> None:
    long = ["a " * 100]
    assert open_tokenizer("open_clip", length=5)(long)[0].tolist()[::4] == [END - 1, END]
    assert open_tokenizer("hf_siglip2", length=5)(long)[0, -1] == 1
    for source in SOURCES:
        tokenizer = open_tokenizer(source, length=7)
        assert tokenizer.cut(["a " * 100, "a", "a a a a a"]) == [0]


def test_special_tokens_are_named_or_given_by_their_ids() -> None:
    changed: Mapping[str, tuple[dict[str, Any], list[int]]] = {
        "both": ({}, [END - 1, 320, END, 0, 0, 0]),
        "end alone": ({"special_tokens": "end"}, [320, END, 0, 0, 0, 0]),
        "padded with the end": ({"padding": "end"}, [END - 1, 320, END, END, END, END]),
        "padded with another": ({"padding_token": 7}, [END - 1, 320, END, 7, 7, 7]),
        "the end is blanked (CLIPA)": ({"end_token": 0, "pooling": "last"}, [END - 1, 320, 0, 0, 0, 0]),
        "another start": ({"start_token": 9}, [9, 320, END, 0, 0, 0]),
        "start alone": ({"special_tokens": "start", "pooling": "first"}, [END - 1, 320, 0, 0, 0, 0]),
    }
    for fields, expected in changed.values():
        assert open_tokenizer("open_clip", length=6, **fields)(["a"])[0].tolist() == expected


def test_a_packed_vocabulary_is_read_and_only_as_many_merges_as_the_original_does() -> None:
    packed = gzip.compress(CLIP.read_bytes())
    spec = open_tokenizer("open_clip").spec
    np.testing.assert_array_equal(Tokenizer(spec, packed)(TEXTS), RECORDED["open_clip"])
    heading = b'"bpe_simple_vocab_16e6.txt#version: 0.2\n'
    many = heading + "".join(f"a{at} b\n" for at in range(60_000)).encode()
    with pytest.raises(InputError, match="has 49,408 pieces and the text tower knows 814: give the file"):
        Tokenizer(spec, many)


@pytest.mark.parametrize(
    ("source", "given", "problem"),
    [
        ("open_clip", b"\xff\xfe\x00", "does not list merges"),
        ("open_clip", SIGLIP.read_bytes(), "does not list merges"),
        ("open_clip", (FILES / "vocabulary.txt").read_bytes(), "does not list merges"),
        ("open_clip", b"#version: 0.2\n", "does not list merges"),
        ("open_clip", b"#version: 0.2\na b\na b\n", "1 repeated merges: it is damaged"),
        ("open_clip", gzip.compress(CLIP.read_bytes())[:-20], "is damaged"),
        ("open_clip", gzip.compress(bytes(65 * 2**20)), "unpacks to more than 64 MiB"),
        ("open_clip", CLIP.read_bytes().rsplit(b"\n", 1)[0], "has 813 pieces and the text tower knows 814"),
        ("open_clip", b"a b\n", "has 515 pieces and the text tower knows 814"),
        ("hf_clip", CLIP.read_bytes(), "not a tokenizer.json"),
        ("hf_clip", b"{}", "not a tokenizer.json"),
        ("hf_clip", GEMMA.read_bytes(), "has 500 pieces and the text tower knows 814"),
        ("hf_siglip2", (FILES / "clip.json").read_bytes(), "has 814 pieces and the text tower knows 500"),
        ("hf_siglip", GEMMA.read_bytes(), "not a SentencePiece model"),
    ],
)
def test_another_file_is_refused(source: str, given: bytes, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        tokenizer = Tokenizer(open_tokenizer(source).spec, given)
        tokenizer(["a photo"])


def test_t5s_extra_ids_at_the_end_of_a_file_are_no_other_size() -> None:
    """SigLIP's multilingual towers know 250,000 ids, and mc4's file has 100 more."""
    spec = open_tokenizer("hf_siglip").spec
    names = [b"<extra_id_1>", "\u2581<extra_id_0>".encode()]
    pieces = [b"\x0a" + bytes([len(name)]) + name + b"\x18\x04" for name in names]  # a string, and the user's kind
    longer = SIGLIP.read_bytes() + b"".join(b"\x0a" + bytes([len(piece)]) + piece for piece in pieces)
    tokenizer = Tokenizer(spec, longer)
    assert tokenizer.count == 432
    np.testing.assert_array_equal(tokenizer(TEXTS), RECORDED["hf_siglip"])
    with pytest.raises(InputError, match="has 432 pieces and the text tower knows 429"):
        Tokenizer(spec.model_copy(update={"vocabulary": 429}), longer)


def test_t5s_extra_ids_in_a_tokenizer_json_are_no_other_size() -> None:
    described = json.loads(GEMMA.read_bytes())
    described["model"]["vocab"] |= {"\u2581<extra_id_1>": 500, "<extra_id_0>": 501}
    longer = json.dumps(described).encode()
    tokenizer = Tokenizer(open_tokenizer("hf_siglip2").spec, longer)
    assert tokenizer.count == 502
    np.testing.assert_array_equal(tokenizer(TEXTS), RECORDED["hf_siglip2"])
    with pytest.raises(InputError, match="has 502 pieces and the text tower knows 499"):
        Tokenizer(open_tokenizer("hf_siglip2").spec.model_copy(update={"vocabulary": 499}), longer)


def by_the_library(ids: dict[str, int], pairs: list[tuple[str, str]]) -> bytes:
    """The file as the tokenizers library writes it for the rules of transformers' CLIPTokenizer."""
    start, end = "<|startoftext|>", "<|endoftext|>"
    words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE(ids, pairs, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=end)
    )
    spaces = tokenizers.normalizers.Replace(tokenizers.Regex(r"\s+"), " ")
    steps = [tokenizers.normalizers.NFC(), spaces, tokenizers.normalizers.Lowercase()]
    made.normalizer = tokenizers.normalizers.Sequence(steps)
    cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(words), behavior="removed", invert=True)
    letters = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([cut, letters])
    made.post_processor = tokenizers.processors.RobertaProcessing(
        (end, ids[end]), (start, ids[start]), trim_offsets=False, add_prefix_space=False
    )
    made.add_special_tokens([tokenizers.AddedToken(name, normalized=False) for name in (start, end)])
    return made.to_str().encode()


def test_a_tokenizer_json_is_made_of_a_vocab_json_and_merges() -> None:
    described = json.loads((FILES / "clip.json").read_bytes())["model"]
    vocabulary = json.dumps(described["vocab"]).encode()
    made = clip_tokenizer_json(vocabulary, CLIP.read_bytes())
    np.testing.assert_array_equal(Tokenizer(open_tokenizer("hf_clip").spec, made)(TEXTS), RECORDED["hf_clip"])
    assert made == by_the_library(described["vocab"], read_merges(CLIP.read_bytes()))
    half = json.dumps({**described["vocab"], "\ud800": len(described["vocab"])}).encode()
    for words, merges in (*((one, CLIP.read_bytes()) for one in (b"[]", b"{}", half)), (vocabulary, b"zq zq\n")):
        with pytest.raises(InputError, match=r"not those of a CLIP tokenizer"):
            clip_tokenizer_json(words, merges)


def test_a_mark_whose_capital_is_a_letter_is_dropped_as_in_the_original() -> None:
    tokenizer = open_tokenizer("open_clip")
    assert tokenizer(["a\u0345b \u0345"]).tolist() == tokenizer(["a b"]).tolist()


def test_without_ftfy_only_texts_that_need_it_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "ftfy":
            raise ImportError(name)
        return real(name, *rest, **more)

    plain = [text for text in TEXTS if text.isascii() and text.isprintable() and "&" not in text]
    expected = open_tokenizer("open_clip")(plain)
    monkeypatch.setattr(builtins, "__import__", missing)
    np.testing.assert_array_equal(open_tokenizer("open_clip")(plain), expected)
    for text in ("naïve", "&amp;", "a\tb"):
        with pytest.raises(MissingPackageError, match=r"this needs ftfy.*vitsmith\[text\]"):
            open_tokenizer("open_clip")([text])


def test_every_word_is_known_to_bytes() -> None:
    tokenizer = open_tokenizer("open_clip")
    read = tokenizer.read(["猫", "", "   ", "zxqv"])
    assert read.known.tolist() == [True, False, False, True] and not read.unknown.any()
    assert tokenizer.unknown_words("猫") == [] and "is empty" in tokenizer.why_unread("")


def test_the_scripts_of_every_kind_of_vocabulary() -> None:
    words = Tokenizer(
        TextSpec(tokenizer="wordpiece", vocabulary=8), "[PAD]\n[UNK]\n[CLS]\n[SEP]\ncat\n##и\n猫\nж".encode()
    )
    assert list(words.scripts.values()) == [0.5, 0.25, 0.25] and "byte by byte" not in words.describe_scripts()
    model = json.loads((FILES / "siglip2.json").read_text())["model"]["vocab"]
    pieces = [piece for piece in model if not piece.startswith("<")]
    assert open_tokenizer("hf_siglip2").scripts == count_scripts(pieces)
    for source in ("open_clip", "hf_clip", "hf_siglip", "hf_siglip2"):
        tokenizer = open_tokenizer(source)
        assert next(iter(tokenizer.scripts)).startswith("Latin"), source
        assert tokenizer.describe_scripts().count("other characters byte by byte") == 1
        assert tokenizer.bytewise("the жук ไทย cat") == ["жук", "ไทย"] and tokenizer.unknown_words("жук") == []
    assert open_tokenizer("open_clip").scripts == {"Latin (English and others)": 1.0}


def test_the_rules_in_words() -> None:
    said = [describe_text(open_tokenizer(source).spec, vocabulary=True) for source in SOURCES]
    assert said == [
        "byte-level BPE of 814 pieces, ftfy, html, spaces, lower, 32 tokens, padded with zeros, the end token pooled",
        "tokenizer of 814 pieces, its own rules, 32 tokens, padded with the end token, the end token pooled",
        "SentencePiece of 430 pieces, lower, punctuation, spaces, 32 tokens, padded with the end token, the last token "
        "pooled",
        "tokenizer of 500 pieces, its own rules, 32 tokens, padded with zeros, the last token pooled",
        "tokenizer of 500 pieces, ftfy, html, canonical, 32 tokens, padded with zeros, the last token pooled",
    ]
    other = open_tokenizer("open_clip", padding_token=7).spec
    assert "padded with token 7" in describe_text(other, vocabulary=True)


def test_the_specification_of_other_kinds() -> None:
    clip = TextSpec(tokenizer="bpe", vocabulary=49408)
    assert (clip.length, clip.padding, clip.pooling) == (77, "zero", "end")
    assert clip.cleaning == ("ftfy", "html", "spaces", "lower")
    for fields, problem in (
        ({"tokenizer": "tokenizers"}, "padding: is missing; pooling: is missing"),
        ({"tokenizer": "bpe", "special_tokens": "start"}, "pooling 'end' does not go with special_tokens 'start'"),
        (
            {"tokenizer": "bpe", "end_token": 10, "padding_token": 11},
            "end_token 10 is not below vocabulary 10; padding",
        ),
        ({"tokenizer": "bpe", "cleaning": ["upper"]}, "cleaning.0"),
        ({"tokenizer": "bpe", "lower_case": True}, r"lower_case is not for 'bpe': use cleaning=\['lower'\]"),
    ):
        with pytest.raises(ConfigError, match=problem):
            TextSpec(**{"vocabulary": 10} | fields)
