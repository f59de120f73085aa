"""Patterns with braces, expanded as shells do; data sets of shards are often named by them."""

from __future__ import annotations

import itertools
import math
import re

from vitsmith.errors import DatasetError

MOST = 100_000
"""The most names that one pattern may stand for; the largest published data sets have some ten thousand shards."""

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,18})\.\.(\d{1,18})", re.ASCII)


def expand_braces(pattern: str) -> list[str]:
    """'a-{08..10}.tar' -> a-08.tar, a-09.tar, a-10.tar; 'a-{x,y}.tar' -> a-x.tar, a-y.tar; as a shell does.

    Raises DatasetError for a range that counts down, for nested or unmatched braces, and for more than `MOST` names.
    """
    fixed = _BRACES.split(pattern)  # text, inside, text, inside, ..., text
    texts, insides = fixed[::2], fixed[1::2]
    if any("{" in text or "}" in text for text in texts):
        raise DatasetError(
            f"the pattern {pattern} has nested braces or an unmatched brace: "
            "write braces side by side, as {a,b}-{00..15}"
        )
    choices = [_choices(inside, pattern) for inside in insides]
    count = math.prod(map(len, choices))
    if count > MOST:
        raise DatasetError(
            f"the pattern {pattern} stands for {_told(count)} names, more than {MOST:,}: give a folder, or use *"
        )
    return [
        "".join(itertools.chain.from_iterable(zip(texts, (*chosen, ""), strict=True)))
        for chosen in itertools.product(*choices)
    ]


def _choices(inside: str, pattern: str) -> list[str]:
    numbers = _RANGE.fullmatch(inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if last < first:
        raise DatasetError(f"the pattern {pattern} counts down from {first} to {last}: write the smaller number first")
    if last - first >= MOST:
        raise DatasetError(
            f"the pattern {pattern} stands for {last - first + 1:,} names, more than {MOST:,}: give a folder, or use *"
        )
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]


def _told(count: int) -> str:
    return f"{count:,}" if count < 10**18 else "too many"
