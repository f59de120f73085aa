"""Characters for which a vocabulary has no piece, and which it reads byte by byte.

Nothing is unknown to such a vocabulary, and yet the model has hardly seen such text: what is frequent has its piece.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby

BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""A piece for one byte, in SentencePiece's spelling."""


def byte_runs(pieces: Iterable[str]) -> list[str]:
    """The texts that runs of byte pieces spell: ['▁', '<0xE7>', '<0x8C>', '<0xAB>'] has ['猫']."""
    matches = [BYTE.fullmatch(piece) for piece in pieces]
    runs = (list(run) for is_byte, run in groupby(matches, key=bool) if is_byte)
    return [bytes(int(one[1], 16) for one in run if one).decode("utf-8", "replace") for run in runs]


def split_characters(text: str, places: Sequence[tuple[int, int]]) -> list[str]:
    """The parts of a text whose characters several pieces share; `places` are [begin, end) of each piece in it."""
    counts = [0] * len(text)
    for begin, end in places:
        for at in range(begin, end):
            counts[at] += 1
    parts = groupby(zip(text, counts, strict=True), key=lambda one: one[1] > 1)
    return ["".join(character for character, _ in part) for shared, part in parts if shared]


def letters_of_bytes() -> list[str]:
    """A printable character for each byte, in the order of CLIP's ids: printable bytes first, then the others."""
    printable = _printable()
    return [chr(byte) for byte in printable] + [chr(256 + at) for at in range(256 - len(printable))]


def text_of_letters(piece: str) -> str:
    """The text of a piece that is written in `letters_of_bytes`; '' for one that is no whole text."""
    try:
        return bytes(_BYTES[letter] for letter in piece).decode("utf-8")
    except (KeyError, UnicodeDecodeError):
        return ""


def _printable() -> list[int]:
    return [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]


_BYTES = dict(zip(letters_of_bytes(), [*_printable(), *sorted(set(range(256)) - set(_printable()))], strict=True))
