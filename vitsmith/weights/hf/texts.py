"""HF's tokenizer files: the vocabulary, and the rules by which texts become tokens.

Source: transformers 5.24, models/*/tokenization_*.py, and tokenization_utils_tokenizers.py for what it takes from a
tokenizer.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from vitsmith.data.text.prompts import named_templates
from vitsmith.data.text.tokenizer_json import clip_tokenizer_json, piece_ids, with_lower_case
from vitsmith.errors import WeightsError
from vitsmith.files.contents import read_words
from vitsmith.models.text_config import TextTransformerConfig
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

    bos: str = ""
    eos: str = ""
    pad: str = ""
    padding_side: str = "right"
    file: str = _TOKENIZERS
    lowers: bool = False


_GEMMA = TokenizerClass("<bos>", "<eos>", "<pad>", padding_side="left", lowers=True)
_CLASSES = {
    "CLIPTokenizer": TokenizerClass("<|startoftext|>", "<|endoftext|>", "<|endoftext|>"),
    "SiglipTokenizer": TokenizerClass(eos="</s>", pad="</s>", file=_SENTENCEPIECE),
    "Siglip2Tokenizer": _GEMMA,
    "GemmaTokenizer": _GEMMA,
    "XLMRobertaTokenizer": TokenizerClass("<s>", "</s>", "<pad>"),
}
"""The classes of published models; other classes must say in their files what they pad with."""


class HFTokenizer(Metadata):
    """The fields of `tokenizer_config.json`, and those of `special_tokens_map.json`, where older files have them."""

    tokenizer_class: str = ""
    padding_side: str = ""
    truncation_side: str = "right"
    bos_token: str = ""
    eos_token: str = ""
    pad_token: str = ""
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    do_lower_case: bool = True
    model_input_names: tuple[str, ...] = ()

    @field_validator("bos_token", "eos_token", "pad_token", mode="before")
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
    name = (told.tokenizer_class or _usual(folder, usual)).removesuffix("Fast")
    known = _CLASSES.get(name, TokenizerClass())
    vocabulary = _vocabulary(folder, known)
    _check_sides(folder, told, known, vocabulary)
    bos, eos, pad = (
        getattr(told, field) or getattr(older, field) or usually
        for field, usually in (("bos_token", known.bos), ("eos_token", known.eos), ("pad_token", known.pad))
    )
    fields: dict[str, Any] = {"padding": "end" if known.pad == known.eos else "zero"}
    notes: list[str] = []
    if known.file == _SENTENCEPIECE:
        steps: tuple[Cleaning, ...] = ("lower", "punctuation", "spaces")
        fields = {"padding": "end", "cleaning": steps if told.do_lower_case else steps[1:]}
        if pad != eos:
            raise _irreproducible(folder, f"pad_token {pad!r} beside eos_token {eos!r}")
    elif vocabulary is not None:
        ids = piece_ids(vocabulary)
        fields = _padding(folder, ids, pad, eos) | _special_tokens(folder, ids, told, bos, eos)
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


def _usual(folder: Path, usual: str) -> str:
    """The class of a folder that names none: SigLIP 2's where it has SigLIP 2's file and not SigLIP's."""
    theirs = usual == "SiglipTokenizer" and not (folder / _SENTENCEPIECE).is_file()
    return "Siglip2Tokenizer" if theirs and (folder / _TOKENIZERS).is_file() else usual


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


def _padding(folder: Path, ids: dict[str, int], pad: str, eos: str) -> dict[str, Any]:
    if not pad:
        raise _irreproducible(folder, "no pad_token")
    if pad == eos:
        return {"padding": "end"}
    number = _id_of(folder, ids, pad)
    return {"padding": "zero"} | ({"padding_token": number} if number else {})


def _special_tokens(folder: Path, ids: dict[str, int], told: HFTokenizer, bos: str, eos: str) -> dict[str, Any]:
    """The tokens around a text, where the configuration decides and not tokenizer.json."""
    if told.add_bos_token is None and told.add_eos_token is None:
        return {}
    around: dict[tuple[bool, bool], Literal["start", "end", "both"]] = {
        (True, False): "start",
        (False, True): "end",
        (True, True): "both",
    }
    has = bool(told.add_bos_token and bos), bool(told.add_eos_token and eos)
    if has not in around:
        raise _irreproducible(folder, "add_bos_token and add_eos_token false")
    named = {"start_token": bos if has[0] else "", "end_token": eos if has[1] else ""}
    numbers = {field: _id_of(folder, ids, piece) for field, piece in named.items() if piece}
    return {"special_tokens": around[has], **numbers}


def _id_of(folder: Path, ids: dict[str, int], piece: str) -> int:
    if piece not in ids:
        raise WeightsError(f"{folder}: tokenizer_config.json names the token {piece!r}, which tokenizer.json lacks")
    return ids[piece]


def _irreproducible(folder: Path, what: str) -> WeightsError:
    return WeightsError(f"{folder}: {what}, in its tokenizer_config.json, cannot be reproduced")
