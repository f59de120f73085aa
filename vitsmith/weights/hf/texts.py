"""HF's tokenizer files: the vocabulary, and the rules by which texts become tokens.

Source: transformers 5.24, models/*/tokenization_*.py, and tokenization_utils_tokenizers.py for what it takes from a
tokenizer.json: the tokens around a text are those that this file adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import field_validator

from vitsmith.data.text.prompts import named_templates
from vitsmith.data.text.tokenizer_json import clip_tokenizer_json, piece_ids, with_lower_case
from vitsmith.errors import WeightsError
from vitsmith.files.contents import read_words
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.models.towers import SIGLIP2_VOCABULARY
from vitsmith.text_spec import Cleaning, TextSpec
from vitsmith.weights.metadata import Metadata, read_metadata

_SENTENCEPIECE, _TOKENIZERS = "spiece.model", "tokenizer.json"
_GEMMA_NOTE = (
    "texts are lower-cased, as SigLIP 2 was trained and transformers' Siglip2Tokenizer does; the GemmaTokenizer that "
    "tokenizer_config.json names does not"
)


@dataclass(frozen=True)
class TokenizerClass:
    """What a class of transformers does where the files do not say it."""

    eos: str = ""
    pad: str = ""
    padding_side: str = "right"
    file: str = _TOKENIZERS
    lowers: bool = False


_GEMMA = TokenizerClass("<eos>", "<pad>", padding_side="left", lowers=True)
_CLASSES = {
    "CLIPTokenizer": TokenizerClass("<|endoftext|>", "<|endoftext|>"),
    "SiglipTokenizer": TokenizerClass("</s>", "</s>", file=_SENTENCEPIECE),
    "Siglip2Tokenizer": _GEMMA,
    "GemmaTokenizer": _GEMMA,
    "XLMRobertaTokenizer": TokenizerClass("</s>", "<pad>"),
}
"""The classes of published models; other classes must say in their files what they pad with."""


class HFTokenizer(Metadata):
    """The fields of `tokenizer_config.json`, and those of `special_tokens_map.json`, where older files have them."""

    tokenizer_class: str = ""
    padding_side: str = ""
    truncation_side: str = "right"
    eos_token: str = ""
    pad_token: str = ""
    do_lower_case: bool = True
    model_input_names: tuple[str, ...] = ()

    @field_validator("eos_token", "pad_token", mode="before")
    @classmethod
    def _content(cls, token: Any) -> Any:
        """Tokens are text, or objects with it."""
        return token.get("content", token) if isinstance(token, dict) else token


@dataclass(frozen=True)
class Texts:
    """The text side of a model, as far as its folder has it."""

    spec: TextSpec
    vocabulary: bytes | None
    """None where the folder has no vocabulary: images can be embedded without."""
    notes: tuple[str, ...] = ()


def read_texts(folder: Path, tower: TextTransformerConfig, usual: str) -> Texts:
    """The vocabulary in a folder, and the rules that go with it. `usual` is the class of a folder that names none.

    Raises WeightsError for rules that a TextSpec cannot express, naming them.
    """
    told = read_metadata(folder / "tokenizer_config.json", HFTokenizer) or HFTokenizer()
    older = read_metadata(folder / "special_tokens_map.json", HFTokenizer) or HFTokenizer()
    name = (told.tokenizer_class or _usual(folder, usual, tower.vocabulary)).removesuffix("Fast")
    known = _CLASSES.get(name, TokenizerClass())
    vocabulary = _vocabulary(folder, known)
    _check_sides(folder, told, known, vocabulary)
    eos = told.eos_token or older.eos_token or known.eos
    pad = told.pad_token or older.pad_token or known.pad
    fields: dict[str, Any] = {"padding": "end" if known.pad == known.eos else "zero"}
    notes: list[str] = []
    if known.file == _SENTENCEPIECE:
        steps: tuple[Cleaning, ...] = ("lower", "punctuation", "spaces")
        fields = {"padding": "end", "cleaning": steps if told.do_lower_case else steps[1:]}
        if pad != eos:
            raise _irreproducible(folder, f"pad_token {pad!r} beside eos_token {eos!r}")
    elif vocabulary is not None:
        fields = _padding(folder, vocabulary, pad, eos)
        vocabulary = with_lower_case(vocabulary) if known.lowers else vocabulary
        notes += [_GEMMA_NOTE] if name == "GemmaTokenizer" else []
    if vocabulary is not None and tower.mask == "none" and "input_ids" not in told.model_input_names:
        notes.append(
            "padding is not masked, as in training; transformers would mask it here, as tokenizer_config.json has no "
            "model_input_names"
        )
    spec = TextSpec(
        tokenizer="sentencepiece" if known.file == _SENTENCEPIECE else "tokenizers",
        length=tower.length,
        vocabulary=tower.vocabulary,
        pooling=tower.pooling,
        templates=named_templates("lit"),
        **fields,
    )
    return Texts(spec, vocabulary, tuple(notes))


def _usual(folder: Path, usual: str, pieces: int) -> str:
    """The class of a folder that names none: SigLIP 2's where its file is there, or its number of pieces is known."""
    if usual != "SiglipTokenizer" or (folder / _SENTENCEPIECE).is_file():
        return usual
    second = (folder / _TOKENIZERS).is_file() or pieces == SIGLIP2_VOCABULARY
    return "Siglip2Tokenizer" if second else usual


def _vocabulary(folder: Path, known: TokenizerClass) -> bytes | None:
    """The bytes of the tokenizer's file; CLIP's two files are made one. Raises InputError for damaged ones."""
    place = folder / known.file
    if place.is_file():
        return read_words(place, "a vocabulary", also=("json",) if known.file == _TOKENIZERS else ())
    words, merges = folder / "vocab.json", folder / "merges.txt"
    if known is not _CLASSES["CLIPTokenizer"] or not (words.is_file() and merges.is_file()):
        return None
    return clip_tokenizer_json(
        read_words(words, "a vocabulary", also=("json",)), read_words(merges, "a list of merges")
    )


def _check_sides(folder: Path, told: HFTokenizer, known: TokenizerClass, vocabulary: bytes | None) -> None:
    """Raises WeightsError for padding or cutting at the beginning of a text."""
    if vocabulary is None:
        return
    side = told.padding_side or known.padding_side
    if side != "right":
        by = "" if told.padding_side else f" (the default of {told.tokenizer_class or 'its class'})"
        raise _irreproducible(folder, f"padding_side {side!r}{by}, which moves the token that is pooled")
    if told.truncation_side != "right":
        raise _irreproducible(folder, f"truncation_side {told.truncation_side!r}")


def _padding(folder: Path, vocabulary: bytes, pad: str, eos: str) -> dict[str, Any]:
    """The fields of a TextSpec that say what follows a text."""
    if not pad:
        raise _irreproducible(folder, "no pad_token")
    if pad == eos:
        return {"padding": "end"}
    number = piece_ids(vocabulary).get(pad)
    if number is None:
        raise WeightsError(f"{folder}: tokenizer_config.json pads with {pad!r}, which tokenizer.json lacks")
    return {"padding": "zero"} | ({"padding_token": number} if number else {})


def _irreproducible(folder: Path, what: str) -> WeightsError:
    return WeightsError(f"{folder}: {what}, in its tokenizer_config.json, cannot be reproduced")
