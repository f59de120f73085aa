"""HF's tokenizer files: the vocabulary, and the rules by which texts become tokens.

Source: transformers 5.24, models/*/tokenization_*.py, and tokenization_utils_tokenizers.py for what it takes from a
tokenizer.json: the tokens around a text are those that this file adds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
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
from vitsmith.errors import InputError
from vitsmith.files.contents import read_words
from vitsmith.json_text import parse_json, to_json
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.models.towers import SIGLIP2_VOCABULARY
from vitsmith.text_spec import Cleaning, TextSpec
from vitsmith.weights.hf.tokenizer_classes import BY_THE_FILE, CLASSES, SENTENCEPIECE, TOKENIZERS, TokenizerClass
from vitsmith.weights.hf.tokenizer_config import CONFIG, AddedToken, HFTokenizer, read_tokenizer_config
from vitsmith.weights.texts import Texts, or_refused

_GEMMA_NOTE = (
    "texts are lower-cased, as SigLIP 2 was trained and transformers' Siglip2Tokenizer does; the GemmaTokenizer that "
    "tokenizer_config.json names does not"
)
_MASK_NOTE = (
    "padding is not masked, as in training; transformers would mask it here, as tokenizer_config.json has no "
    "model_input_names"
)


@dataclass(frozen=True)
class _Files:
    """The files of a tokenizer, none of them damaged."""

    vocabulary: bytes
    described: Described = field(default_factory=dict)
    """tokenizer.json as plain data; empty for the others."""
    merges: bytes = b""
    """merges.txt, where the vocabulary is CLIP's vocab.json."""


def read_texts(folder: Path, tower: TextTransformerConfig, usual: str) -> Texts:
    """The vocabulary in a folder, and the rules that go with it. `usual` is the class of a folder that names none; ''
    for a model of open_clip, which asks a tokenizer of transformers for tokens alone.

    Rules that a TextSpec cannot express refuse texts, and not the model: see `Texts.refused`. Raises InputError for
    damaged files.
    """
    told = read_tokenizer_config(folder)
    name = (told.tokenizer_class or _usual(folder, usual, tower.vocabulary)).removesuffix("Fast")
    files = _read_files(folder, CLASSES.get(name, TokenizerClass()))
    return or_refused(tower, lambda: _followed(files, told, name, tower, usual))


def _followed(files: _Files | None, told: HFTokenizer, name: str, tower: TextTransformerConfig, usual: str) -> Texts:
    """The rules of a tokenizer of the class `name`. Raises InputError for those that we do not have."""
    known = CLASSES.get(name, TokenizerClass())
    named = {kind: AddedToken(content=token) for kind, token in known.tokens.items()} | told.named
    vocabulary, fields, notes = None, {"padding": "end" if known.pads_with_end else "zero"}, list[str]()
    if known.file == SENTENCEPIECE:
        fields = _sentencepiece_fields(told, named)
    if files is not None:
        if name not in (*CLASSES, *BY_THE_FILE):
            raise _irreproducible(f"tokenizer_class {told.tokenizer_class!r}, whose rules are not known here")
        _check(told, known, files.described)
        vocabulary = files.vocabulary
        if known.file == TOKENIZERS:
            not_gemmas = name == "GemmaTokenizer" and usual == "SiglipTokenizer"
            vocabulary, fields = _tokenizers_fields(files, told, named, known, lowers=known.lowers or not_gemmas)
            notes += [_GEMMA_NOTE] if not_gemmas else []
        notes += [_MASK_NOTE] if usual and tower.mask == "none" and "input_ids" not in told.model_input_names else []
    spec = TextSpec(
        tokenizer="sentencepiece" if known.file == SENTENCEPIECE else "tokenizers",
        length=tower.length,
        vocabulary=tower.vocabulary,
        pooling=tower.pooling,
        templates=named_templates("lit"),
        **fields,
    )
    return Texts(spec, vocabulary, tuple(notes))


def _sentencepiece_fields(told: HFTokenizer, named: Mapping[str, AddedToken]) -> dict[str, Any]:
    """The fields of a TextSpec as SiglipTokenizer cleans and pads; it cuts a text at special tokens first."""
    eos, pad = named["eos_token"].content, named["pad_token"].content
    if pad != eos:
        raise _irreproducible(f"pad_token {pad!r} beside eos_token {eos!r}")
    steps: tuple[Cleaning, ...] = ("lower", "punctuation", "spaces")
    return {
        "padding": "end",
        "cleaning": steps if told.do_lower_case else steps[1:],
        "reserved": tuple(dict.fromkeys(token.content for token in told.all_tokens(named))),
    }


def _tokenizers_fields(
    files: _Files, told: HFTokenizer, named: Mapping[str, AddedToken], known: TokenizerClass, *, lowers: bool
) -> tuple[bytes, dict[str, Any]]:
    """A tokenizer.json that does all that transformers' class does, and the fields of a TextSpec for what is left."""
    vocabulary, described = files.vocabulary, files.described
    if files.merges:
        vocabulary = clip_tokenizer_json(vocabulary, files.merges)
        described = describe_tokenizer(vocabulary)
    fields = _padding(described, named)
    edited, fields["reserved"] = _as_transformers(described, told, named, known, has_json=not files.merges)
    edited = with_lower_case(edited) if lowers else edited
    return vocabulary if edited == described else to_json(edited).encode(), fields


def _as_transformers(
    described: Described,
    told: HFTokenizer,
    named: Mapping[str, AddedToken],
    known: TokenizerClass,
    *,
    has_json: bool,
) -> tuple[Described, tuple[str, ...]]:
    """A tokenizer.json with the rules and special tokens of its class, and special tokens that it has no number for.

    `has_json`: it is a file of the folder, whose added tokens count before those that are only named.
    """
    if known.rules is not None:
        described = known.rules(described, {kind: token.content for kind, token in named.items()}, told)
    ids = piece_ids(described)
    added = {one["content"] for one in described.get("added_tokens") or ()}
    flags = told.added_tokens_decoder.values() if has_json else (*named.values(), *told.added_tokens_json)
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


def _read_files(folder: Path, known: TokenizerClass) -> _Files | None:
    """The files of a tokenizer; None where they are not there. Raises InputError for damaged ones."""
    place = folder / known.file
    if place.is_file():
        vocabulary = read_words(place, "a vocabulary", also=("json",) if known.file == TOKENIZERS else ())
        return _Files(vocabulary, describe_tokenizer(vocabulary, str(place)) if known.file == TOKENIZERS else {})
    words, merges = folder / "vocab.json", folder / "merges.txt"
    if known is not CLASSES["CLIPTokenizer"] or not (words.is_file() and merges.is_file()):
        return None
    vocabulary = read_words(words, "a vocabulary", also=("json",))
    parse_json(vocabulary, str(words))
    return _Files(vocabulary, merges=read_words(merges, "a list of merges"))


def _check(told: HFTokenizer, known: TokenizerClass, described: Described) -> None:
    """Raises InputError for padding or cutting at the beginning of a text, and for other ways to make pieces."""
    of_file = _direction(described, "padding")
    side = told.padding_side or of_file or known.padding_side
    if side != "right":
        by = "" if told.padding_side or of_file else f" (the default of {told.tokenizer_class or 'its class'})"
        where = TOKENIZERS if of_file and not told.padding_side else CONFIG
        raise _irreproducible(f"padding_side {side!r}{by}, which moves the token that is pooled", where)
    of_file = _direction(described, "truncation")
    side = told.truncation_side or of_file or "right"
    if side != "right":
        raise _irreproducible(f"truncation_side {side!r}", CONFIG if told.truncation_side else TOKENIZERS)
    if whole := [token.content for token in told.all_tokens(told.named) if token.single_word]:
        raise _irreproducible(f"single_word true of {whole[0]!r}")
    if told.split_special_tokens:
        raise _irreproducible("split_special_tokens true")
    if known.file == SENTENCEPIECE and (told.sp_model_kwargs or not told.legacy):
        raise _irreproducible("sp_model_kwargs" if told.sp_model_kwargs else "legacy false")


def _direction(described: Described, what: str) -> str:
    """'left' or 'right' as a tokenizer.json has it, the default of every class; '' where it does not say."""
    part = described.get(what)
    return str(part.get("direction", "right")).lower() if isinstance(part, dict) else ""


def _padding(described: Described, named: Mapping[str, AddedToken]) -> dict[str, Any]:
    """The fields of a TextSpec that say what follows a text."""
    eos, pad = (named[kind].content if kind in named else "" for kind in ("eos_token", "pad_token"))
    if not pad:
        raise _irreproducible("no pad_token")
    if pad == eos:
        return {"padding": "end"}
    number = piece_ids(described).get(pad)
    if number is None:
        raise InputError(f"{CONFIG} pads with {pad!r}, which {TOKENIZERS} lacks")
    return {"padding": "zero"} | ({"padding_token": number} if number else {})


def _irreproducible(what: str, file: str = CONFIG) -> InputError:
    return InputError(f"{what}, in its {file}, cannot be reproduced")
