"""Turn text into token ids, as the original does. Source: vit_jax/preprocess.py.

The vocabulary of a model is the file that its authors published: that of WordPiece is text with one piece on each line;
that of SentencePiece is a binary model. Letters: T texts, L tokens of each.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vitsmith.errors import InputError, MissingPackageError, shown
from vitsmith.specs import TextSpec

START, UNKNOWN, END = "[CLS]", "[UNK]", "[SEP]"
"""Pieces that a WordPiece vocabulary must have; the last one only where texts are padded with an end token."""

_SPACE = "\u2581"  # SentencePiece's mark for the beginning of a word

_LONGEST_WORD = 100  # characters, tensorflow_text's default; longer words are unknown

_SPARE = 128
"""The most unused embeddings of a tower: some authors round their number up to a multiple of 64 or 128."""

_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of the Unicode database, which case folding to NFKC_Casefold drops."""

_SURROGATES = re.compile("[\ud800-\udfff]")
"""The characters that Python makes of bytes on a command line that are not UTF-8."""

_PUNCTUATION = str.maketrans("_", " ", string.punctuation.replace("_", ""))


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
        self._pieces = _open_pieces(spec, vocabulary)
        if not 0 <= spec.vocabulary - self._pieces.count < _SPARE:
            raise InputError(
                f"the vocabulary has {self._pieces.count:,} pieces and the text tower knows {spec.vocabulary:,}: "
                "give the file that was published with the model"
            )

    @property
    def count(self) -> int:
        """The number of pieces in the vocabulary."""
        return self._pieces.count

    def __call__(self, texts: Iterable[str]) -> NDArray[np.int32]:
        """Token ids, int32 (T, L): clipped, and padded as the specification says."""
        return self.read(texts).tokens

    def cut(self, texts: Iterable[str]) -> list[int]:
        """Positions of the texts that are longer than the model's context; their ends are not read."""
        return np.flatnonzero(self.read(texts).cut).tolist()

    def read(self, texts: Iterable[str]) -> Reading:
        """Tokens of the texts, and what the model cannot read of them. Raises InputError for what is not text."""
        rows = self._encode(list_texts(texts))
        length, zero = self.spec.length, self.spec.padding == "zero"
        tokens = np.full((len(rows), length), 0 if zero else self._pieces.end, np.int32)
        known, unknown = np.zeros((2, len(rows)), np.bool_)
        for at, (row, ids) in enumerate(zip(tokens, rows, strict=True)):
            read = ids[: length - 1]
            if zero:
                row[0] = self._pieces.start
                row[1 : 1 + len(read)] = read
            else:  # the end token is always there, because the model pools it
                row[: len(read)] = read
            known[at] = any(one not in self._pieces.empty for one in read)
            unknown[at] = self._pieces.unknown in read
        cut = np.fromiter((len(ids) > length - 1 for ids in rows), np.bool_, len(rows))
        return Reading(tokens, cut, known, unknown)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks, without punctuation: all of them become the same token."""
        prepared = canonicalize(text) if self.spec.canonicalize else text
        words = (word.strip() for word in self._pieces.unknown_words(prepared))
        return list(dict.fromkeys(word for word in words if not _is_punctuation(word)))

    def why_unread(self, text: str) -> str:
        """A message that says why nothing of `text` is in the vocabulary, and what to do."""
        if not text.strip():
            return f"{text!r} is empty: write words"
        if not self.unknown_words(text):
            return f"{text!r} has only punctuation, which this model does not read: write words"
        return (
            f"{text!r} has no word that this model's vocabulary knows, so the model cannot tell it from any other "
            "unknown word: use words like those that the model was trained on"
        )

    def _encode(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            if not text.isascii() and _SURROGATES.search(text):
                raise InputError(f"{text!r} is not Unicode text (bytes of another encoding?): give it in UTF-8")
        if self.spec.canonicalize:
            texts = [canonicalize(text) for text in texts]
        return self._pieces.encode(texts)


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
    """The number of pieces in a vocabulary file, whatever `spec.vocabulary` says. Raises InputError as `Tokenizer`."""
    return _open_pieces(spec, vocabulary).count


def canonicalize(text: str) -> str:
    """Turn '_' into a space, drop ASCII punctuation, lower the case and join spaces, as big_vision does for SigLIP."""
    return " ".join(text.translate(_PUNCTUATION).lower().split())


def fold_case(text: str) -> str:
    """Lower the case and drop accents, as tensorflow_text's BertTokenizer(lower_case=True).

    This is Unicode's NFKC_Casefold ('ß' becomes 'ss', ligatures are split, zero-width characters are dropped), then NFD
    without its marks. BERT's own code only lowers the case, and so differs for such characters.
    """
    if text.isascii():
        return text.lower()
    folded = _IGNORED.sub("", unicodedata.normalize("NFD", text))
    for _ in range(2):  # normalising may make characters that fold again (Unicode's definition of the mapping)
        folded = unicodedata.normalize("NFKC", folded.casefold())
    return "".join(each for each in unicodedata.normalize("NFD", folded) if unicodedata.category(each) != "Mn")


class _Pieces(Protocol):
    """The interface of both kinds of vocabulary. `start` exists where texts are padded with zeros."""

    count: int
    start: int
    end: int
    unknown: int
    """The piece for everything that the vocabulary lacks."""
    empty: frozenset[int]
    """Pieces without information about the text: `unknown`, and a space."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text, without start, end and padding."""

    def unknown_words(self, text: str) -> list[str]:
        """The words of the text that become `unknown`."""


def _open_pieces(spec: TextSpec, vocabulary: bytes) -> _Pieces:
    return (_WordPiece if spec.tokenizer == "wordpiece" else _SentencePiece)(spec, vocabulary)


class _WordPiece:
    def __init__(self, spec: TextSpec, vocabulary: bytes) -> None:
        self._vocabulary = _read_pieces(vocabulary)
        self._lower_case = spec.lower_case
        self.count = len(self._vocabulary)
        needed = (UNKNOWN, START) if spec.padding == "zero" else (UNKNOWN, END)
        missing = [piece for piece in needed if piece not in self._vocabulary]
        if missing:
            raise InputError(
                f"the vocabulary has no {' and no '.join(missing)}: it is not that of a WordPiece tokenizer"
            )
        self.start = self._vocabulary.get(START, 0)
        self.end = self._vocabulary.get(END, 0)
        self.unknown = self._vocabulary[UNKNOWN]
        self.empty = frozenset([self.unknown])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        prepared = [self._prepared(text) for text in texts]
        return [one.ids for one in self._tokenizer.encode_batch(prepared, add_special_tokens=False)]

    def unknown_words(self, text: str) -> list[str]:
        prepared = self._prepared(text)
        found = self._tokenizer.encode(prepared, add_special_tokens=False)
        places = [place for one, place in zip(found.ids, found.offsets, strict=True) if one == self.unknown]
        return [prepared[begin:end] for begin, end in places]

    def _prepared(self, text: str) -> str:
        return _without_controls(fold_case(text) if self._lower_case else text)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import Tokenizer as Pieces
            from tokenizers import models, normalizers, pre_tokenizers
        except ImportError:
            raise MissingPackageError("tokenizers", "text") from None
        model = models.WordPiece(self._vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=_LONGEST_WORD)
        tokenizer = Pieces(model)
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=False, handle_chinese_chars=True, strip_accents=False, lowercase=False
        )
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        return tokenizer


class _SentencePiece:
    def __init__(self, spec: TextSpec, vocabulary: bytes) -> None:
        try:
            import sentencepiece
        except ImportError:
            raise MissingPackageError("sentencepiece", "text") from None
        self._lower_case = spec.lower_case
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=vocabulary)
            self.count = int(self._processor.get_piece_size())
        except Exception as error:  # the foreign parser may raise anything for bytes that are not a model
            raise InputError("the vocabulary is not a SentencePiece model: give the .model file") from error
        self.start, self.end = -1, int(self._processor.eos_id())
        if self.count == 0 or self.end < 0:
            raise InputError("the vocabulary is not a SentencePiece model with an end token: give the .model file")
        self.unknown = int(self._processor.unk_id())
        self.empty = frozenset([self.unknown, int(self._processor.piece_to_id(_SPACE))])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = self._processor.encode([self._prepared(text) for text in texts])
        return encoded

    def unknown_words(self, text: str) -> list[str]:
        prepared = self._prepared(text)
        pieces = zip(self._processor.encode(prepared), self._processor.encode(prepared, out_type=str), strict=True)
        return [piece.replace(_SPACE, " ") for one, piece in pieces if one == self.unknown]

    def _prepared(self, text: str) -> str:
        return text.lower() if self._lower_case else text


def check_lines(tokenizer: str, vocabulary: bytes) -> None:
    """Raise InputError for a vocabulary file with a blank line, which shifts the ids of all pieces below it.

    This is for files that users give; a bundle's own vocabulary is the one that its model was trained with.
    """
    if tokenizer != "wordpiece":
        return
    lines = vocabulary.rstrip(b"\r\n").split(b"\n")
    if blank := [number for number, line in enumerate(lines, 1) if not line.strip()]:
        raise InputError(
            f"the vocabulary has a blank line (line {blank[0]}), and the number of a line is the id of its piece: give "
            "the file as it was published with the model"
        )


def _read_pieces(vocabulary: bytes) -> dict[str, int]:
    """Map each piece to its id, the number of its line. Only a line feed ends a line; '#' begins a piece."""
    try:
        lines = vocabulary.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise InputError("the vocabulary is not a text file with one piece on each line, as WordPiece needs") from None
    if lines and not lines[-1]:
        lines.pop()
    pieces = {line.rstrip("\r"): index for index, line in enumerate(lines)}
    if len(pieces) < len(lines):
        raise InputError(f"the vocabulary has {len(lines) - len(pieces)} repeated pieces: it is damaged")
    return pieces


def _is_punctuation(word: str) -> bool:
    return all(unicodedata.category(each).startswith("P") for each in word)


def _without_controls(text: str) -> str:
    """Turn control and format characters into spaces, as tensorflow_text's BasicTokenizer does."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cf") else each for each in text)
