"""Vocabularies in a tokenizer.json of Hugging Face's tokenizers library, which holds its own rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

from vitsmith.data.text.byte_pairs import read_merges
from vitsmith.data.text.byte_pieces import BYTE, byte_runs, split_characters, text_of_letters
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.json_text import to_compact_json

_SPACE = "\u2581"  # SentencePiece's mark for the beginning of a word
_UNKNOWN = ("<unk>", "[UNK]")

_CLIP_START, _CLIP_END = "<|startoftext|>", "<|endoftext|>"
_CLIP_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # of transformers
)


class TokenizerJson:
    """See `pieces.Vocabulary`. Start and end token are those that the file itself adds to a text."""

    def __init__(self, vocabulary: bytes) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingPackageError("tokenizers", "text") from None
        try:
            self._tokenizer: Any = Tokenizer.from_str(vocabulary.decode("utf-8"))
        except Exception as error:  # the foreign parser raises Exception itself
            raise InputError(f"the vocabulary {_NOT_ONE} ({error})") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._byte_level = b'"ByteLevel"' in vocabulary
        self.count = int(self._tokenizer.get_vocab_size(with_added_tokens=True))
        self.spare = count_extra_ids(self.count, self._tokenizer.id_to_token)
        self.start, self.end = self._added()
        self.special_tokens = _SPECIAL[self.start is not None, self.end is not None]
        unknown = getattr(self._tokenizer.model, "unk_token", None)
        self.unknown = self._first_of([unknown, *_UNKNOWN] if unknown else _UNKNOWN)
        self.empty = frozenset({self.unknown, self._first_of([_SPACE])} - {-1})

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def unknown_words(self, text: str) -> list[str]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        places = [place for one, place in zip(found.ids, found.offsets, strict=True) if one == self.unknown]
        return [text[begin:end] for begin, end in places]

    @property
    def has_bytes(self) -> bool:
        return self._byte_level or self._tokenizer.token_to_id("<0x00>") is not None

    def bytewise(self, text: str) -> list[str]:
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return split_characters(text, found.offsets) if self._byte_level else byte_runs(found.tokens)

    def texts(self) -> Iterator[str]:
        for piece in self._tokenizer.get_vocab(with_added_tokens=False):
            if self._byte_level:
                yield text_of_letters(piece.removesuffix("</w>"))
            elif not BYTE.fullmatch(piece):
                yield piece.removeprefix("##")

    def _first_of(self, names: Sequence[str]) -> int:
        """The id of the first of these pieces that there is; -1 for none."""
        found = (self._tokenizer.token_to_id(name) for name in names)
        return next((int(one) for one in found if one is not None), -1)

    def _added(self) -> tuple[int | None, int | None]:
        """The ids that the file adds before and after a text; None for none."""
        bare = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        for before in range(len(whole) - len(bare) + 1):
            start, end = whole[:before], whole[before + len(bare) :]
            if whole[before : before + len(bare)] == bare and max(len(start), len(end)) <= 1:
                return next(iter(start), None), next(iter(end), None)
        raise InputError(f"tokenizer.json adds {len(whole) - len(bare)} tokens to a text, more than a start and an end")


def count_extra_ids(count: int, piece_of: Callable[[int], str | None]) -> int:
    """The number of T5's '<extra_id_0>' and so on at the end of a vocabulary: SigLIP's towers do not know mc4's 100."""
    at = count
    while at > 0 and (piece_of(at - 1) or "").lstrip(_SPACE).startswith("<extra_id_"):
        at -= 1
    return count - at


Described = dict[str, Any]
"""A tokenizer.json as plain data."""


def clip_tokenizer_json(vocabulary: bytes, merges: bytes) -> bytes:
    """The tokenizer.json of a vocab.json and a merges.txt, as transformers (5.24) makes it for its CLIPTokenizer.

    It is written without the tokenizers library, byte for byte as that writes it: so a model that is read for its
    images needs no library for texts, and is the same model, of the same identity, with it and without it. Raises
    InputError for other files.
    """
    pairs = read_merges(merges)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    try:
        ids = json.loads(vocabulary)
        rules = _clip_rules(ids, pairs, _CLIP_START, _CLIP_END, _CLIP_END)
        added = sorted((ids[name], name) for name in (_CLIP_START, _CLIP_END))
        tokens = [{"id": at, "content": name, **flags} for at, name in added]
        model = rules.pop("model")
        described = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, **rules}
        return to_compact_json(described | {"decoder": None, "model": model})
    except Exception as error:  # whatever else the file holds
        raise InputError(f"this vocab.json and merges.txt are not those of a CLIP tokenizer ({error!r})") from None


def _clip_rules(
    ids: Mapping[str, int], pairs: Sequence[tuple[str, str]], start: str, end: str, unknown: str
) -> Described:
    """The rules of transformers' CLIPTokenizer, as a tokenizer.json has them. Raises Exception for what is none."""
    for first, second in pairs:
        if missing := [piece for piece in (first, second, first + second) if piece not in ids]:
            raise ValueError(f"the merge of {first!r} and {second!r} needs the piece {missing[0]!r}")
    replaced = {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "}
    words = {"type": "Split", "pattern": {"Regex": _CLIP_WORDS}, "behavior": "Removed", "invert": True}
    letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    around = {"sep": [end, ids[end]], "cls": [start, ids[start]], "trim_offsets": False, "add_prefix_space": False}
    suffixes = {"continuing_subword_prefix": "", "end_of_word_suffix": "</w>"}
    flags = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": False}
    vocabulary = dict(sorted(ids.items(), key=lambda one: one[1]))
    return {
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, replaced, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [words, letters]},
        "post_processor": {"type": "RobertaProcessing", **around},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": unknown,
            **suffixes,
            **flags,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in pairs],
        },
    }


def describe_tokenizer(vocabulary: bytes, where: str = "the vocabulary") -> Described:
    """Raises InputError, which begins with `where`, for bytes that are no tokenizer.json."""
    try:
        described = json.loads(vocabulary)
    except (ValueError, RecursionError):  # no JSON, or too deep for Python
        described = None
    if not isinstance(described, dict):
        raise InputError(f"{where} {_NOT_ONE}")
    return described


def piece_ids(described: Described) -> dict[str, int]:
    """The pieces in a tokenizer.json and their numbers, those that were added included. Raises InputError."""
    try:
        words = described["model"]["vocab"]
        own = words if isinstance(words, dict) else {piece: at for at, (piece, *_) in enumerate(words)}
        added = {one["content"]: one["id"] for one in described.get("added_tokens") or ()}
        return {piece: int(at) for piece, at in {**own, **added}.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(f"the vocabulary {_NOT_ONE}") from None


def count_json_pieces(described: Described) -> int:
    """The number of pieces in a tokenizer.json as the tokenizers library counts them, which needs not be there.

    A list of pieces counts each of its entries, also one that it has twice; an added token without letters is none.
    Raises InputError.
    """
    own = described["model"]["vocab"] if piece_ids(described) else ()
    added = {one["content"] for one in described.get("added_tokens") or ()} - {""}
    return len(own) + len(added - set(own if isinstance(own, dict) else (piece for piece, *_ in own)))


def with_clip_rules(described: Described, start: str, end: str, unknown: str) -> Described:
    """A tokenizer.json whose pieces are read by the rules of transformers' CLIPTokenizer, whatever its own are.

    Raises InputError.
    """
    try:
        model = described["model"]
        pairs = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
        made = _clip_rules(piece_ids(described), pairs, start, end, unknown)
    except InputError:
        raise
    except Exception as error:  # whatever else the file holds
        raise InputError(f"tokenizer.json is not that of a CLIP tokenizer ({error!r})") from None
    made["model"]["vocab"] = model["vocab"]
    return described | made


def with_lower_case(described: Described) -> Described:
    """A tokenizer.json that lowers the case first, as transformers (5.24) does for SigLIP 2."""
    found = described.get("normalizer")
    steps = found.get("normalizers", [found]) if isinstance(found, dict) else []
    if any(isinstance(step, dict) and step.get("type") == "Lowercase" for step in steps):
        return described
    return described | {"normalizer": {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *steps]}}


def with_added_tokens(described: Described, tokens: Mapping[str, Mapping[str, Any]]) -> Described:
    """A tokenizer.json that makes one token of each of these pieces, which it has, wherever a text has them.

    `tokens` holds for each its `lstrip`, `rstrip`, `single_word`, `normalized` and `special`. Raises InputError.
    """
    ids = piece_ids(described)
    added = {one["content"]: one for one in described.get("added_tokens") or ()}
    added |= {piece: {"id": ids[piece], "content": piece, **told} for piece, told in tokens.items()}
    return described | {"added_tokens": sorted(added.values(), key=lambda one: int(one["id"]))}


_NOT_ONE = "is not a tokenizer.json: give the file as published"

_SPECIAL: dict[tuple[bool, bool], Literal["start", "end", "both"] | None] = {
    (True, False): "start",
    (False, True): "end",
    (True, True): "both",
    (False, False): None,
}
