"""The vocabularies of text towers, WordPiece and SentencePiece: texts to the numbers of their pieces.

The vocabulary of a model is the file that its authors published: that of WordPiece is text with one piece on each line;
that of SentencePiece is a binary model. The others are in `byte_pairs.py` (CLIP) and `tokenizer_json.py`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, Protocol

from vitsmith.data.text.byte_pairs import BytePairs
from vitsmith.data.text.byte_pieces import byte_runs
from vitsmith.data.text.tokenizer_json import TokenizerJson, count_extra_ids
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.text_spec import TextSpec

START, UNKNOWN, END = "[CLS]", "[UNK]", "[SEP]"
"""Pieces that a WordPiece vocabulary must have; the last one only where texts are padded with an end token."""

_SPACE = "\u2581"  # SentencePiece's mark for the beginning of a word

_BYTES_STAND_FIRST = 1000  # behind a few special tokens

_LONGEST_WORD = 100  # characters, tensorflow_text's default; longer words are unknown

_IGNORED = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Default_Ignorable_Code_Point of the Unicode database, which case folding to NFKC_Casefold drops."""


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


class Vocabulary(Protocol):
    """The interface of all kinds of vocabulary."""

    @property
    def count(self) -> int:
        """The number of pieces."""

    @property
    def spare(self) -> int:
        """How many of them, the last ones, stand for nothing that a text has."""

    @property
    def special_tokens(self) -> Literal["start", "end", "both"] | None:
        """The special tokens that the tokenizer puts around a text; None where the model decides."""

    @property
    def start(self) -> int | None:
        """The start token; None for none."""

    @property
    def end(self) -> int | None:
        """The end token; None for none."""

    @property
    def unknown(self) -> int:
        """The piece for everything that the vocabulary lacks; -1 for none."""

    @property
    def empty(self) -> frozenset[int]:
        """Pieces without information about the text: `unknown`, and a space."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The pieces of each text, without start, end and padding."""

    def unknown_words(self, text: str) -> list[str]:
        """The words of the text that become `unknown`."""

    @property
    def has_bytes(self) -> bool:
        """Whether what has no piece is read byte by byte."""

    def bytewise(self, text: str) -> list[str]:
        """The parts of the text that are read byte by byte, because their characters have no piece."""

    def texts(self) -> Iterable[str]:
        """What the pieces stand for; '' for some that stand for no text."""


def open_vocabulary(spec: TextSpec, vocabulary: bytes) -> Vocabulary:
    """The vocabulary in the bytes of its file. Raises InputError and MissingPackageError, as `Tokenizer`."""
    match spec.tokenizer:
        case "wordpiece":
            return _WordPiece(spec, vocabulary)
        case "sentencepiece":
            return _SentencePiece(spec, vocabulary)
        case "bpe":
            return BytePairs(vocabulary)
        case "tokenizers":
            return TokenizerJson(vocabulary)


class _WordPiece:
    special_tokens, spare = None, 0
    has_bytes = False

    def __init__(self, spec: TextSpec, vocabulary: bytes) -> None:
        self._vocabulary = _read_pieces(vocabulary)
        self._lower_case = spec.lower_case
        self.count = len(self._vocabulary)
        needed = (UNKNOWN, START) if spec.pooling == "first" else (UNKNOWN, END)
        missing = [piece for piece in needed if piece not in self._vocabulary]
        if missing:
            raise InputError(
                f"the vocabulary has no {' and no '.join(missing)}: it is not that of a WordPiece tokenizer"
            )
        self.start, self.end = self._vocabulary.get(START), self._vocabulary.get(END)
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

    def bytewise(self, text: str) -> list[str]:
        return []

    def texts(self) -> Iterable[str]:
        return (piece.removeprefix("##") for piece in self._vocabulary)

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
    special_tokens = None

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
        start, self.end = int(self._processor.bos_id()), int(self._processor.eos_id())
        self.start = start if start >= 0 else None
        if self.count == 0 or self.end < 0:
            raise InputError("the vocabulary is not a SentencePiece model with an end token: give the .model file")
        self.spare = count_extra_ids(self.count, self._processor.id_to_piece)
        self.unknown = int(self._processor.unk_id())
        self.empty = frozenset([self.unknown, int(self._processor.piece_to_id(_SPACE))])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        encoded: list[list[int]] = self._processor.encode([self._prepared(text) for text in texts])
        return encoded

    def unknown_words(self, text: str) -> list[str]:
        prepared = self._prepared(text)
        pieces = zip(self._processor.encode(prepared), self._processor.encode(prepared, out_type=str), strict=True)
        return [piece.replace(_SPACE, " ") for one, piece in pieces if one == self.unknown]

    @property
    def has_bytes(self) -> bool:
        return any(map(self._processor.is_byte, range(min(self.count, _BYTES_STAND_FIRST))))

    def bytewise(self, text: str) -> list[str]:
        return byte_runs(self._processor.encode(self._prepared(text), out_type=str))

    def texts(self) -> Iterable[str]:
        usual = (
            at for at in range(self.count) if not self._processor.is_control(at) and not self._processor.is_byte(at)
        )
        return (self._processor.id_to_piece(at) for at in usual)

    def _prepared(self, text: str) -> str:
        return text.lower() if self._lower_case else text


def count_sentence_pieces(model: bytes) -> int:
    """The number of pieces in a SentencePiece model, without its library. Raises InputError for other bytes.

    The file is a protobuf message, ModelProto of sentencepiece_model.proto, in which each piece is a field 1.
    """
    count = at = 0
    try:
        while at < len(model):
            key, at = _varint(model, at)
            length = {1: 8, 5: 4}.get(key & 7, 0)
            if key & 7 == 0:
                _, at = _varint(model, at)
            elif key & 7 == 2:
                length, at = _varint(model, at)
            elif not length:
                raise ValueError(f"field {key}")
            at += length
            count += key == _PIECE
    except (IndexError, ValueError):
        count = 0
    if count == 0 or at != len(model):
        raise InputError("the vocabulary is not a SentencePiece model: give the .model file")
    return count


_PIECE = 1 << 3 | 2  # field 1, of bytes whose number is told


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """A protobuf number of 7 bits a byte, the lowest first, and the place behind it. Raises IndexError at the end."""
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at


def check_lines(tokenizer: str, vocabulary: bytes) -> None:
    """Raise InputError for a vocabulary file with a blank line, which shifts the ids of all pieces below it.

    This is for files from outside; a bundle's own vocabulary is the one that its model was trained with.
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


def _without_controls(text: str) -> str:
    """Turn control and format characters into spaces, as tensorflow_text's BasicTokenizer does."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(" " if unicodedata.category(each) in ("Cc", "Cf") else each for each in text)
