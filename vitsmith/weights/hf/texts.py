"""HF's tokenizer files: the vocabulary, and the rules by which texts become tokens.

Source: transformers 5.24, models/*/tokenization_*.py, and tokenization_utils_tokenizers.py for what it takes from a
tokenizer.json: the tokens around a text are those that this file adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.data.text.prompts import named_templates
from vitsmith.data.text.tokenizer_json import (
    Described,
    clip_tokenizer_json,
    describe_tokenizer,
    piece_ids,
    with_added_tokens,
    with_lower_case,
)
from vitsmith.errors import WeightsError
from vitsmith.files.contents import read_words
from vitsmith.json_text import to_json
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.models.towers import SIGLIP2_VOCABULARY
from vitsmith.text_spec import Cleaning, TextSpec
from vitsmith.weights.hf.tokenizer_classes import BY_THE_FILE, CLASSES, SENTENCEPIECE, TOKENIZERS, TokenizerClass
from vitsmith.weights.hf.tokenizer_config import AddedToken, HFTokenizer, read_tokenizer_config

_GEMMA_NOTE = (
    "texts are lower-cased, as SigLIP 2 was trained and transformers' Siglip2Tokenizer does; the GemmaTokenizer that "
    "tokenizer_config.json names does not"
)


@dataclass(frozen=True)
class Texts:
    """The text side of a model, as far as its folder has it."""

    spec: TextSpec
    vocabulary: bytes | None
    """None where the folder has no vocabulary: images can be embedded without."""
    notes: tuple[str, ...] = ()


def read_texts(folder: Path, tower: TextTransformerConfig, usual: str) -> Texts:
    """The vocabulary in a folder, and the rules that go with it. `usual` is the class of a folder that names none; ''
    for a model of open_clip, which asks a tokenizer of transformers for tokens alone.

    Raises WeightsError for rules that a TextSpec cannot express, naming them.
    """
    told = read_tokenizer_config(folder)
    name = (told.tokenizer_class or _usual(folder, usual, tower.vocabulary)).removesuffix("Fast")
    known = CLASSES.get(name, TokenizerClass())
    vocabulary = _vocabulary(folder, known)
    described = describe_tokenizer(vocabulary) if vocabulary and known.file == TOKENIZERS else {}
    _check(folder, told, known, described if vocabulary else None)
    named = {kind: AddedToken(content=token) for kind, token in known.tokens.items()} | told.named
    fields: dict[str, Any] = {"padding": "end" if known.pads_with_end else "zero"}
    notes: list[str] = []
    if known.file == SENTENCEPIECE:
        fields = _sentencepiece_fields(folder, told, named)
    elif vocabulary is not None:
        fields = _padding(folder, described, named)
        not_gemmas = name == "GemmaTokenizer" and usual == "SiglipTokenizer"
        edited, fields["reserved"] = _as_transformers(folder, described, told, named, known)
        edited = with_lower_case(edited) if known.lowers or not_gemmas else edited
        vocabulary = vocabulary if edited == described else to_json(edited).encode()
        notes += [_GEMMA_NOTE] if not_gemmas else []
        if name not in (*CLASSES, *BY_THE_FILE):
            notes.append(
                f"texts are read by the rules of tokenizer.json; {name}, which is not known here, may have others"
            )
    if vocabulary is not None and usual and tower.mask == "none" and "input_ids" not in told.model_input_names:
        notes.append(
            "padding is not masked, as in training; transformers would mask it here, as tokenizer_config.json has no "
            "model_input_names"
        )
    spec = TextSpec(
        tokenizer="sentencepiece" if known.file == SENTENCEPIECE else "tokenizers",
        length=tower.length,
        vocabulary=tower.vocabulary,
        pooling=tower.pooling,
        templates=named_templates("lit"),
        **fields,
    )
    return Texts(spec, vocabulary, tuple(notes))


def _sentencepiece_fields(folder: Path, told: HFTokenizer, named: Mapping[str, AddedToken]) -> dict[str, Any]:
    """The fields of a TextSpec as SiglipTokenizer cleans and pads; it cuts a text at special tokens first."""
    eos, pad = named["eos_token"].content, named["pad_token"].content
    if pad != eos:
        raise _irreproducible(folder, f"pad_token {pad!r} beside eos_token {eos!r}")
    steps: tuple[Cleaning, ...] = ("lower", "punctuation", "spaces")
    return {
        "padding": "end",
        "cleaning": steps if told.do_lower_case else steps[1:],
        "reserved": tuple(dict.fromkeys(token.content for token in told.all_tokens(named))),
    }


def _as_transformers(
    folder: Path, described: Described, told: HFTokenizer, named: Mapping[str, AddedToken], known: TokenizerClass
) -> tuple[Described, tuple[str, ...]]:
    """A tokenizer.json with the rules and special tokens of its class, and special tokens that it has no number for."""
    if known.rules is not None:
        described = known.rules(described, {kind: token.content for kind, token in named.items()}, told)
    ids = piece_ids(described)
    added = {one["content"] for one in described.get("added_tokens") or ()}
    flags = told.added_tokens_decoder.values() if (folder / TOKENIZERS).is_file() else named.values()
    stronger = {token.content for token in flags}
    tokens = {token.content: token.model_dump(exclude={"content"}) for token in told.all_tokens(named)}
    wanted = {piece: one for piece, one in tokens.items() if piece in ids and (piece in stronger or piece not in added)}
    return with_added_tokens(described, wanted), tuple(piece for piece in tokens if piece not in ids)


def _usual(folder: Path, usual: str, pieces: int) -> str:
    """The class of a folder that names none: SigLIP 2's where its file is there, or its number of pieces is known."""
    if usual != "SiglipTokenizer" or (folder / SENTENCEPIECE).is_file():
        return usual
    second = (folder / TOKENIZERS).is_file() or pieces == SIGLIP2_VOCABULARY
    return "Siglip2Tokenizer" if second else usual


def _vocabulary(folder: Path, known: TokenizerClass) -> bytes | None:
    """The bytes of the tokenizer's file; CLIP's two files are made one. Raises InputError for damaged ones."""
    place = folder / known.file
    if place.is_file():
        return read_words(place, "a vocabulary", also=("json",) if known.file == TOKENIZERS else ())
    words, merges = folder / "vocab.json", folder / "merges.txt"
    if known is not CLASSES["CLIPTokenizer"] or not (words.is_file() and merges.is_file()):
        return None
    return clip_tokenizer_json(
        read_words(words, "a vocabulary", also=("json",)), read_words(merges, "a list of merges")
    )


def _check(folder: Path, told: HFTokenizer, known: TokenizerClass, described: Described | None) -> None:
    """Raises WeightsError for padding or cutting at the beginning of a text, and for other ways to make pieces.

    `described` is None for a folder without a vocabulary.
    """
    if described is None:
        return
    of_file = _direction(described, "padding")
    side = told.padding_side or of_file or known.padding_side
    if side != "right":
        by = "" if told.padding_side or of_file else f" (the default of {told.tokenizer_class or 'its class'})"
        raise _irreproducible(folder, f"padding_side {side!r}{by}, which moves the token that is pooled")
    side = told.truncation_side or _direction(described, "truncation") or "right"
    if side != "right":
        raise _irreproducible(folder, f"truncation_side {side!r}")
    if told.split_special_tokens:
        raise _irreproducible(folder, "split_special_tokens true")
    if known.file == SENTENCEPIECE and (told.sp_model_kwargs or not told.legacy):
        raise _irreproducible(folder, "sp_model_kwargs" if told.sp_model_kwargs else "legacy false")


def _direction(described: Described, what: str) -> str:
    """'left' or 'right' as a tokenizer.json has it, the default of every class; '' where it does not say."""
    part = described.get(what)
    return str(part.get("direction", "right")).lower() if isinstance(part, dict) else ""


def _padding(folder: Path, described: Described, named: Mapping[str, AddedToken]) -> dict[str, Any]:
    """The fields of a TextSpec that say what follows a text."""
    eos, pad = (named[kind].content if kind in named else "" for kind in ("eos_token", "pad_token"))
    if not pad:
        raise _irreproducible(folder, "no pad_token")
    if pad == eos:
        return {"padding": "end"}
    number = piece_ids(described).get(pad)
    if number is None:
        raise WeightsError(f"{folder}: tokenizer_config.json pads with {pad!r}, which tokenizer.json lacks")
    return {"padding": "zero"} | ({"padding_token": number} if number else {})


def _irreproducible(folder: Path, what: str) -> WeightsError:
    return WeightsError(f"{folder}: {what}, in its tokenizer_config.json, cannot be reproduced")
