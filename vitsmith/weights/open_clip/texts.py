"""How texts become tokens in open_clip, and the tokenizer's file, which may lie beside the weights.

Source: `get_tokenizer` in factory.py, SimpleTokenizer and HFTokenizer in tokenizer.py of open_clip 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vitsmith.data.text.byte_pairs import merges_in
from vitsmith.data.text.prompts import named_templates
from vitsmith.data.text.tokenizer import UNUSED, count_pieces
from vitsmith.errors import InputError, WeightsError, shown
from vitsmith.files.contents import read_words
from vitsmith.json_text import read_json
from vitsmith.text_spec import OPENAI_CLEANING, Cleaning, TextSpec
from vitsmith.weights.open_clip.model_cfg import TextCfg

_CLEANING: dict[str, tuple[Cleaning, ...]] = {
    "lower": OPENAI_CLEANING,
    "whitespace": ("ftfy", "html", "spaces"),
    "canonicalize": ("ftfy", "html", "canonical"),
}
MERGES = ("bpe_simple_vocab_16e6.txt.gz", "merges.txt")
"""Files with CLIP's merges, which a tokenizer.json of CLIP holds too; open_clip itself has the first in its package."""
TOKENIZER = "tokenizer.json"
_CONFIGS = ("special_tokens_map.json", "tokenizer_config.json")
"""Files of transformers that name the special tokens, the more telling last."""

Found = tuple[TextSpec, bytes | None, tuple[str, ...]]
"""The rules, the bytes of the tokenizer's file if it is there, and notes on what was assumed."""


def open_clip_text(text: TextCfg, folder: Path) -> Found:
    """The rules by which open_clip reads texts, and the tokenizer in the folder of the weights.

    Raises WeightsError for tokenizers that do what ours do not, and for files that are no tokenizers.
    """
    arguments = dict(text.tokenizer_kwargs or {})
    cleaning = arguments.pop("clean", "whitespace" if text.hf_tokenizer_name else "lower")
    blank_end = bool(text.hf_tokenizer_name) and arguments.pop("strip_sep_token", False) is True
    if left := [name for name, value in arguments.items() if value]:
        raise WeightsError(f"{folder}: tokenizer_kwargs {left[0]} {shown(arguments[left[0]])} is not supported")
    if cleaning not in _CLEANING:
        raise WeightsError(f"{folder}: clean {shown(cleaning)} is not known, known are {', '.join(_CLEANING)}")
    fields: dict[str, Any] = {
        "length": text.context_length,
        "vocabulary": text.vocab_size,
        "cleaning": _CLEANING[cleaning],
        "pooling": "last" if text.pool_type == "last" else "end",
        "templates": named_templates("lit"),
    }
    if not text.hf_tokenizer_name:
        return TextSpec(tokenizer="bpe", **fields), _merges(folder), ()
    return _of_transformers(folder, fields, blank_end)


def _merges(folder: Path) -> bytes | None:
    for name in MERGES:
        if (folder / name).exists():
            return read_words(folder / name, "a vocabulary", also=("gzip",))
    place = folder / TOKENIZER
    if not place.exists():
        return None
    try:
        return merges_in(read_words(place, "a tokenizer", also=("json",)))
    except InputError as error:
        raise WeightsError(
            f"{place}: {error}; open_clip reads texts of this model with {MERGES[0]}: put that beside it"
        ) from None


@dataclass(frozen=True)
class _Special:
    """What the files beside a tokenizer of transformers say of its special tokens."""

    told: Mapping[str, Any]
    ids: Mapping[str, int]

    @classmethod
    def of(cls, folder: Path) -> _Special:
        told: dict[str, Any] = {}
        for name in _CONFIGS:
            found = _read(folder / name)
            told |= {key: value for key, value in found.items() if value is not None}
        tokenizer = _read(folder / TOKENIZER)
        added = [one for one in tokenizer.get("added_tokens") or () if isinstance(one, dict)]
        return cls(told, {one["content"]: one["id"] for one in added if {"content", "id"} <= one.keys()})

    def id_of(self, kind: str) -> int | None:
        """The id of the 'pad', 'eos', 'sep', ... token; None where nothing says it."""
        token = self.told.get(f"{kind}_token")
        name = token.get("content") if isinstance(token, dict) else token
        return self.ids.get(name) if isinstance(name, str) else None

    @property
    def around(self) -> Literal["start", "end", "both"] | None:
        """The tokens around a text, where transformers is told to add them anew; None: as tokenizer.json has it."""
        start, end = self.told.get("add_bos_token"), self.told.get("add_eos_token")
        if start is None and end is None:
            return None
        return "both" if start and end else "start" if start else "end" if end else None


def _of_transformers(folder: Path, fields: dict[str, Any], blank_end: bool) -> Found:
    """With a tokenizer of transformers, which open_clip looks for in the folder of the weights."""
    special = _Special.of(folder)
    if special.told.get("padding_side") == "left":
        raise WeightsError(f"{folder}: padding_side 'left' of its tokenizer is not supported, only 'right' is")
    padding = special.id_of("pad")
    fields |= {"tokenizer": "tokenizers", "padding": "zero"}
    fields |= {"padding_token": padding} if padding else {}
    if special.around:
        tokens = {"start_token": special.id_of("bos"), "end_token": special.id_of("eos")}
        fields |= {"special_tokens": special.around, **tokens}
    if blank_end:  # [SEP] becomes 0
        fields |= {"end_token": 0}
    spec, place = TextSpec(**fields), folder / TOKENIZER
    if not place.exists():
        return spec, None, ()
    vocabulary = read_words(place, "a tokenizer", also=("json",))
    notes = ["no file beside the weights says what pads texts: token 0 was assumed"] * (padding is None)
    pieces = count_pieces(spec, vocabulary)
    if pieces + UNUSED < spec.vocabulary:  # that of CLIPA, which has more embeddings than BERT has pieces
        spec = spec.model_copy(update={"pieces": pieces})
        notes.append(f"the text tower knows {spec.vocabulary:,} tokens, and its tokenizer has {pieces:,}")
    return spec, vocabulary, tuple(notes)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path, error=WeightsError)
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}
