"""The scripts that a vocabulary covers, counted from its own pieces: characters, not how well a language is known."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

USUAL = {
    "LATIN": "Latin (English and others)",
    "CYRILLIC": "Cyrillic (Russian and others)",
    "GREEK": "Greek",
    "ARABIC": "Arabic",
    "HEBREW": "Hebrew",
    "DEVANAGARI": "Devanagari (Hindi)",
    "BENGALI": "Bengali",
    "TAMIL": "Tamil",
    "THAI": "Thai",
    "CJK": "Han (Chinese)",
    "HIRAGANA": "Kana (Japanese)",
    "KATAKANA": "Kana (Japanese)",
    "HANGUL": "Hangul (Korean)",
}
"""The first word of the Unicode name of a letter -> its script. A vocabulary without one of these is told to be."""

_SPECIAL = re.compile(r"<[^<>]+>|\[\w+\]")
"""Pieces that stand for no text: '<unk>', '[SEP]', '<|endoftext|>'."""

FEW = 0.01
"""Scripts with a smaller share of the pieces are named without their share."""


def count_scripts(texts: Iterable[str]) -> dict[str, float]:
    """The share of each script among the pieces with a letter, the largest first. A piece counts by its first one."""
    counts = Counter(script for text in texts if not _SPECIAL.fullmatch(text) and (script := _script_of(text)))
    total = counts.total()
    return {script: count / total for script, count in counts.most_common()}


def describe_scripts(shares: dict[str, float], *, bytewise: bool) -> str:
    """One line: the scripts with their shares, those of which there is little, and the usual ones that are missing."""
    many = [f"{script} {share:.0%}" for script, share in shares.items() if share >= FEW]
    few = [script for script, share in shares.items() if share < FEW]
    none = [script for script in dict.fromkeys(USUAL.values()) if script not in shares]
    told = [", ".join(many)] if many else []
    told += [f"few of {', '.join(few[:12])}{', ...' if len(few) > 12 else ''}"] if few else []
    told += [f"none of {', '.join(none)}"] if none else []
    told += ["other characters byte by byte"] if bytewise else []
    return f"{'; '.join(told)} (shares of its pieces: what it can spell, not how well the model knows a language)"


def _script_of(text: str) -> str:
    return next((script for character in text if (script := _script(character))), "")


@lru_cache(100_000)
def _script(character: str) -> str:
    """The script of a letter; '' for other characters, and for letters that stand for others, as fullwidth ones."""
    if unicodedata.category(character)[0] != "L":
        return ""
    first = unicodedata.name(character, "").split(" ")[0].split("-")[0]
    if first in USUAL:
        return USUAL[first]
    return first.capitalize() if first in _OTHERS else ""


_OTHERS = frozenset(
    {
        *("ARMENIAN", "GEORGIAN", "GUJARATI", "GURMUKHI", "KANNADA", "MALAYALAM", "TELUGU", "ORIYA", "SINHALA"),
        *("KHMER", "LAO", "MYANMAR", "TIBETAN", "ETHIOPIC", "MONGOLIAN", "CHEROKEE", "SYRIAC", "THAANA"),
    }
)
