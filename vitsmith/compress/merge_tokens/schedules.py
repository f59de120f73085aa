"""Schedules of how many tokens each block merges, for a share of the arithmetic or a number of tokens. No torch here.

'constant' merges the same number in every block. 'decreasing' falls linearly from twice that to zero, so that as many
merges save more (arXiv 2210.09461, section 4.2 and appendix D). 'searched' follows from what each block loses, see
`vitsmith.compress.merge_tokens.schedule_search`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vitsmith.errors import InputError, UnknownNameError
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.cost import flops

Numbers = tuple[int, ...]

KINDS = ("constant", "decreasing", "searched")


@dataclass(frozen=True)
class MergeTarget:
    """How much to merge, and how to spread it over the blocks."""

    kind: str = "constant"
    ratio: float | None = None
    """Factor by which merging divides the arithmetic of an image."""
    tokens: int | None = None
    """Tokens left after the last block, in place of `ratio`. Where both are None, several ratios are tried."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UnknownNameError("schedule", self.kind, KINDS)
        if self.ratio is not None and self.tokens is not None:
            raise InputError("ratio and tokens both say how much is merged: give one of them")
        if self.ratio is not None and not self.ratio > 1:
            raise InputError(f"ratio is what the arithmetic is divided by and must be above 1, got {self.ratio:g}")

    def is_met(self, tower: ViTConfig, numbers: Sequence[int]) -> bool:
        """Whether a schedule merges enough. Needs `ratio` or `tokens`."""
        if self.ratio is not None:
            return saved(tower, numbers) >= self.ratio
        assert self.tokens is not None
        return tower.tokens - sum(numbers) <= self.tokens


def image_tower(config: Any, where: str) -> ViTConfig:
    """The part of a model whose tokens can merge. Raises InputError when there is none."""
    tower = config.image if isinstance(config, LiTConfig) else config
    if not isinstance(tower, ViTConfig):
        raise InputError(f"{where} is an MLP-Mixer: its layers need every token in its place, so none can merge")
    if tower.pooling in ("unpooled", "token_unpooled"):
        raise InputError(f"{where} gives an answer for every token: merge models that give one answer an image")
    if tower.merge:
        raise InputError(f"{where} merges tokens already: start from the model that it was made from")
    if tower.tokens - tower.prefix < 2:
        raise InputError(f"{where} has only one patch: there is no other to merge it with")
    if tower.depth < 2:
        raise InputError(f"{where} has only one block: merging saves time in later blocks")
    return tower


def spread(tower: ViTConfig, kind: str, total: int) -> Numbers:
    """Spreads `total` merges over the blocks of a constant or decreasing schedule, as far as tokens have partners.

    Where the head reads only a prefix token, the last block merges none, as that would save nothing.
    """
    blocks = merging_blocks(tower)
    weights = [1.0] * blocks if kind == "constant" else [blocks - index - 0.5 for index in range(blocks)]
    numbers: list[int] = []
    for index, weight in enumerate(weights):
        left = total - sum(numbers)
        numbers.append(math.ceil(left * weight / sum(weights[index:]) - 1e-9))
    return clipped(tower, numbers) + (0,) * (tower.depth - blocks)


def merging_blocks(tower: ViTConfig) -> int:
    """Number of blocks that may merge, counted from the first."""
    return tower.depth - (tower.pooling == "token")


def saved(tower: ViTConfig, numbers: Sequence[int]) -> float:
    """Factor by which a schedule divides the arithmetic."""
    merged = tower.model_copy(update={"merge": tuple(numbers)})
    return flops(tower) / flops(merged)


def fit(tower: ViTConfig, kind: str, *, ratio: float | None = None, tokens: int | None = None) -> Numbers:
    """The constant or decreasing schedule that merges least among those that reach a target.

    The target is to divide the arithmetic by `ratio`, or to leave at most `tokens`. Raises InputError where no such
    schedule reaches it.
    """
    assert (ratio is None) != (tokens is None)
    patches = tower.tokens - tower.prefix
    if tokens is not None:
        if not tower.prefix < tokens < tower.tokens:
            raise InputError(f"`tokens` must be between {tower.prefix + 1} and {tower.tokens - 1}, got {tokens}")
        numbers = spread(tower, kind, tower.tokens - tokens)
        if sum(numbers) < tower.tokens - tokens:
            least = tower.tokens - sum(numbers)
            raise InputError(
                f"a {kind} schedule leaves at least {least} tokens, so {tokens} cannot be reached: ask for more"
            )
        return numbers
    assert ratio is not None
    most = max((spread(tower, kind, total) for total in range(1, patches)), key=lambda one: saved(tower, one))
    for total in range(1, patches):
        numbers = spread(tower, kind, total)
        if saved(tower, numbers) >= ratio:
            return numbers
    raise InputError(
        f"a {kind} schedule divides the arithmetic by at most {saved(tower, most):.2f}, not by {ratio:g}: ask for less"
    )


def clipped(tower: ViTConfig, numbers: Sequence[int]) -> Numbers:
    """The same schedule, with each block limited to the tokens that have a partner there."""
    patches, found = tower.tokens - tower.prefix, []
    for number in numbers:
        found.append(min(number, patches // 2))
        patches -= found[-1]
    return tuple(found)


def describe(numbers: Sequence[int]) -> str:
    """'12 x 11, 0' for twelve blocks that begin with eleven times 12."""
    told: list[tuple[int, int]] = []
    for number in numbers:
        if told and told[-1][0] == number:
            told[-1] = (number, told[-1][1] + 1)
        else:
            told.append((number, 1))
    if len(told) > 4 or all(a[0] != b[0] and a[1] == 1 for a, b in pairwise(told)):
        return " ".join(map(str, numbers))
    return ", ".join(f"{number} x {times}" if times > 1 else str(number) for number, times in told)
