"""The vocabulary of CLIP: byte-level BPE with OpenAI's merges.

Source: clip/simple_tokenizer.py of OpenAI, tokenizer.py of open_clip. Pieces are numbered in this order: the 256 bytes,
the 256 bytes at the end of a word, one piece for each merge, start and end token.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

from vitsmith.data.text.byte_pieces import letters_of_bytes, split_characters, text_of_letters
from vitsmith.errors import InputError, MissingPackageError

START, END = "<start_of_text>", "<end_of_text>"

_WORD_END = "</w>"
_BYTES = 2 * 256
"""The pieces before the first merge."""
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}\x{345}]+"
"""The original's pattern. It ignores case, and so drops U+0345, whose capital is a letter. Letters newer than this
library's Unicode (17.0 and what is not assigned) are symbols here, and become the same bytes in other pieces."""

_ORIGINAL, _ORIGINAL_MERGES = "bpe_simple_vocab_16e6", 49152 - 256 - 2
"""The published file has more merges than the model knows: the others are not used, as in the original."""
_LARGEST = 64 * 2**20
"""The most bytes of an unpacked vocabulary; the published one has 3 MB."""


class BytePairs:
    """See `pieces.Vocabulary`. Nothing is unknown to it, because every byte is a piece."""

    special_tokens: Literal["both"] = "both"
    unknown, spare = -1, 0
    empty: frozenset[int] = frozenset()

    def __init__(self, vocabulary: bytes) -> None:
        self._merges = read_merges(vocabulary)
        letters = letters_of_bytes()
        pieces = [*letters, *(letter + _WORD_END for letter in letters), *("".join(pair) for pair in self._merges)]
        self._ids = {piece: at for at, piece in enumerate([*pieces, START, END])}
        self.count = len(pieces) + 2
        self.start, self.end = self.count - 2, self.count - 1
        if len(self._ids) < self.count:
            raise InputError(f"the vocabulary has {self.count - len(self._ids)} repeated merges: it is damaged")

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def unknown_words(self, text: str) -> list[str]:
        return []

    @property
    def has_bytes(self) -> bool:
        return True

    def bytewise(self, text: str) -> list[str]:
        return split_characters(text, self._tokenizer.encode(text, add_special_tokens=False).offsets)

    def texts(self) -> Iterator[str]:
        return (text_of_letters(piece.removesuffix(_WORD_END)) for piece in self._ids)

    @cached_property
    def _tokenizer(self) -> Any:
        try:
            from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
        except ImportError:
            raise MissingPackageError("tokenizers", "text") from None
        try:
            model = models.BPE(self._ids, self._merges, end_of_word_suffix=_WORD_END)
        except Exception as error:  # the library raises Exception itself
            raise InputError(f"the vocabulary is not one of merges of CLIP's tokenizer ({error})") from None
        tokenizer = Tokenizer(model)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.add_special_tokens([AddedToken(one, normalized=False) for one in (START, END)])
        return tokenizer


def read_merges(vocabulary: bytes) -> list[tuple[str, str]]:
    """The pairs in a merges.txt, or in the packed file that OpenAI published. Raises InputError for other files."""
    try:
        lines = _unpacked(vocabulary).decode("utf-8").split("\n")
    except (UnicodeDecodeError, zlib.error):
        raise InputError(_another_kind()) from None
    if lines and lines[0].lstrip('"#').startswith(("version", _ORIGINAL)):
        most = _ORIGINAL_MERGES if _ORIGINAL in lines[0] else len(lines)
        lines = lines[1 : 1 + most]
    pairs = [tuple(line.rstrip("\r").split(" ")) for line in lines if line.strip()]
    if not pairs or any(len(pair) != 2 for pair in pairs):
        raise InputError(_another_kind())
    return [(left, right) for left, right in pairs]


def merges_in(tokenizer: Mapping[str, Any]) -> bytes:
    """The merges.txt that the tokenizer.json of CLIP in transformers holds. Raises InputError for another tokenizer."""
    try:
        model = tokenizer["model"]
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        ids = [model["vocab"]["".join(pair)] for pair in pairs]
    except (AttributeError, TypeError, KeyError):
        raise InputError("tokenizer.json has no merges of pieces, as that of CLIP's tokenizer has") from None
    if ids != list(range(_BYTES, _BYTES + len(ids))):
        raise InputError("tokenizer.json numbers its pieces in another way than CLIP's tokenizer")
    return "\n".join(["#version: 0.2", *(" ".join(pair) for pair in pairs)]).encode()


def _unpacked(vocabulary: bytes) -> bytes:
    if not vocabulary.startswith(b"\x1f\x8b"):
        return vocabulary
    unpacker = zlib.decompressobj(wbits=31)
    text = unpacker.decompress(vocabulary, _LARGEST)
    if not unpacker.eof:
        raise InputError("the vocabulary is damaged, or unpacks to more than 64 MiB: give the file as it was published")
    return text


def _another_kind() -> str:
    return (
        "the vocabulary does not list merges, two pieces on each line, as CLIP's tokenizer needs: give merges.txt or "
        "bpe_simple_vocab_16e6.txt.gz"
    )
