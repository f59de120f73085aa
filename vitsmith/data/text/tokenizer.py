"""Turn text into token ids, as the model's authors do.

Letters: T texts, L tokens of each.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.text.cleaning import clean
from vitsmith.data.text.pieces import count_sentence_pieces, open_vocabulary
from vitsmith.data.text.scripts import count_scripts, describe_scripts
from vitsmith.data.text.tokenizer_json import count_json_pieces, describe_tokenizer
from vitsmith.errors import InputError, MissingPackageError, shown
from vitsmith.text_spec import TextSpec

UNUSED = 127
"""The most unused embeddings of a tower: some authors round their number up to a multiple of 64 or 128.

Not with CLIP's BPE, whose special tokens have the last ids: of another size they would be other tokens.
"""

_SHOWN = 5  # of the unknown words of a text

_SURROGATES = re.compile("[\ud800-\udfff]")
"""The characters that Python makes of bytes on a command line that are not UTF-8."""


class Reading(NamedTuple):
    """T texts as tokens, and what the model cannot read of them."""

    tokens: NDArray[np.int32]
    """(T, L): clipped, and padded as the specification says."""
    cut: NDArray[np.bool_]
    """(T,): True for texts longer than the context, whose ends are not read."""
    known: NDArray[np.bool_]
    """(T,): True for texts with a known piece in the part that is read. All other texts look the same to the model."""
    unknown: NDArray[np.bool_]
    """(T,): True for texts with something in the part that is read that the vocabulary lacks."""


class Tokenizer:
    """Turns texts into int32 (T, L), with the vocabulary and the rules of one model.

    Args: spec: the rules by which texts become tokens.
        vocabulary: the bytes of the vocabulary file.

    Raises InputError for a file of another kind, or one with more pieces than the text tower knows; MissingPackageError
    without the library that reads it.
    """

    def __init__(self, spec: TextSpec, vocabulary: bytes) -> None:
        self.spec, self.vocabulary = spec, vocabulary
        self._pieces = open_vocabulary(spec, vocabulary)
        most = 0 if spec.tokenizer == "bpe" else UNUSED
        wanted = spec.vocabulary if spec.pieces is None else spec.pieces
        if not -self._pieces.spare <= wanted - self._pieces.count <= most:
            raise InputError(
                f"the vocabulary has {self._pieces.count:,} pieces and the text tower knows {wanted:,}: "
                "give the file that was published with the model"
            )
        self._start, self._end, self._padding = self._special_tokens()

    @property
    def count(self) -> int:
        """The number of pieces in the vocabulary."""
        return self._pieces.count

    def __call__(self, texts: str | Iterable[str]) -> NDArray[np.int32]:
        """Token ids of one text or several, int32 (T, L): clipped, and padded as the specification says."""
        return self.read(texts).tokens

    def cut(self, texts: str | Iterable[str]) -> list[int]:
        """Positions of the texts that are longer than the model's context; their ends are not read."""
        return np.flatnonzero(self.read(texts).cut).tolist()

    def read(self, texts: str | Iterable[str]) -> Reading:
        """Tokens of the texts, and what the model cannot read of them. Raises InputError for what is not text."""
        rows = self._encode(several_texts(texts))
        before, after = ([] if one is None else [one] for one in (self._start, self._end))
        room = self.spec.length - len(before) - len(after)
        tokens = np.full((len(rows), self.spec.length), self._padding, np.int32)
        known, unknown = np.zeros((2, len(rows)), np.bool_)
        for at, (row, ids) in enumerate(zip(tokens, rows, strict=True)):
            read = ids[:room]
            whole = [*before, *read, *after]
            row[: len(whole)] = whole
            known[at] = any(one not in self._pieces.empty for one in read)
            unknown[at] = self._pieces.unknown in read
        cut = np.fromiter((len(ids) > room for ids in rows), np.bool_, len(rows))
        return Reading(tokens, cut, known, unknown)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks, without punctuation: all of them become the same token."""
        words = (word.strip() for word in self._pieces.unknown_words(clean(text, self.spec)))
        return list(dict.fromkeys(word for word in words if not _is_punctuation(word)))

    def bytewise(self, text: str) -> list[str]:
        """The parts of a text that are read byte by byte, because the vocabulary has no piece for their characters.

        They are not unknown, but the model has hardly seen such text.
        """
        cleaned = clean(text, self.spec)
        return [] if cleaned.isascii() else list(dict.fromkeys(self._pieces.bytewise(cleaned)))

    @cached_property
    def scripts(self) -> dict[str, float]:
        """The scripts of its vocabulary, and the share of its pieces that each has: see `scripts.count_scripts`."""
        return count_scripts(self._pieces.texts())

    def describe_scripts(self) -> str:
        """One line about `scripts`, as a model card has it."""
        return describe_scripts(self.scripts, bytewise=self._pieces.has_bytes)

    def why_unread(self, text: str) -> str:
        """A message that says why nothing of `text` is in the vocabulary, and what to do."""
        if not text.strip():
            return f"{text!r} is empty: write words"
        unknown = self.unknown_words(text)
        if not unknown:
            return f"{text!r} has only punctuation, which this model does not read: write words"
        return (
            f"{text!r} has no word that this model's vocabulary knows (no known piece in: "
            f"{', '.join(unknown[:_SHOWN])}{', ...' if len(unknown) > _SHOWN else ''}), so the model cannot tell it "
            "from any other unknown word: use words like those that the model was trained on"
        )

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            if not text.isascii() and _SURROGATES.search(text):
                raise InputError(f"{text!r} is not Unicode text (bytes of another encoding?): give it in UTF-8")
        return self._pieces.encode([clean(text, self.spec) for text in texts])

    def _special_tokens(self) -> tuple[int | None, int | None, int]:
        """The ids of start token, end token and padding; None for one that the model does not have."""
        spec, pieces = self.spec, self._pieces
        around = spec.special_tokens or pieces.special_tokens or ("start" if spec.pooling == "first" else "end")
        start = pieces.start if spec.start_token is None else spec.start_token
        end = pieces.end if spec.end_token is None else spec.end_token
        if start is None and around != "end":
            raise InputError("the vocabulary has no start token: give its id in `start_token`")
        if end is None and around != "start":
            raise InputError("the vocabulary has no end token: give its id in `end_token`")
        padding = spec.padding_token
        if padding is None:
            padding = 0 if spec.padding == "zero" or end is None else end
        return start if around != "end" else None, end if around != "start" else None, padding


def several_texts(texts: str | Iterable[str]) -> list[str]:
    """One text becomes a list of one, as one image does; others are `list_texts`."""
    return [texts] if isinstance(texts, str) else list_texts(texts)


def list_texts(texts: Iterable[str], what: str = "texts") -> list[str]:
    """The texts of any sequence or generator, in order. Raises InputError, which names `what`, for anything else.

    A single text is refused, because its letters would be taken as texts; sets are refused, because they have no order.
    """
    if isinstance(texts, str):
        raise InputError(f"{what} must be a list, not one text: give [{texts!r}]")
    if isinstance(texts, bytes | bytearray | Mapping | set | frozenset) or not isinstance(texts, Iterable):
        raise InputError(f"{what} must be a list of strings, not {type(texts).__name__}")
    try:
        listed = list(texts)
    except TypeError as error:  # an array without axes
        raise InputError(f"{what} must be a list of strings, not {shown(texts)} ({error})") from None
    wrong = next((number for number, text in enumerate(listed) if not isinstance(text, str)), None)
    if wrong is not None:
        found = listed[wrong]
        raise InputError(f"{what} must be strings, and number {wrong + 1} is {type(found).__name__} ({shown(found)})")
    return listed


def count_pieces(spec: TextSpec, vocabulary: bytes) -> int:
    """The number of pieces in a vocabulary file, whatever `spec.vocabulary` says. Raises InputError for another file.

    No library is asked, as the number is a part of a model's identity, which is the same on every machine.
    """
    match spec.tokenizer:
        case "tokenizers":
            return count_json_pieces(describe_tokenizer(vocabulary))
        case "sentencepiece":
            return count_sentence_pieces(vocabulary)
        case "wordpiece" | "bpe":
            return open_vocabulary(spec, vocabulary).count


def why_unreadable(spec: TextSpec, vocabulary: bytes) -> str:
    """Why the library of a vocabulary file cannot read it; '' where it can, or is not installed."""
    try:
        open_vocabulary(spec, vocabulary)
    except MissingPackageError:
        return ""
    except InputError as error:
        return str(error)
    return ""


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(each).startswith("P") for each in word)
