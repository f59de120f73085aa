"""The schedules that are tried: for several ratios, the plain ones, and those searched by what each block loses.

Each block alone merges a sixteenth, an eighth and a quarter of the patches, and the answers are compared with those of
the whole model. In between, a block's loss is interpolated linearly; the schedule grows by the tokens that cost least
for the arithmetic they save. Losses of blocks do not quite add up, so the result is compared with a constant and a
decreasing schedule of the same arithmetic on the same images, and the best of the three is changed where that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitsmith.arrays import Array
from vitsmith.compress.merge_tokens.schedules import MergeTarget, Numbers, clipped, fit, merging_blocks, saved
from vitsmith.errors import InputError
from vitsmith.evaluation.calibration import log_softmax
from vitsmith.gate import mean_cosine
from vitsmith.models.config import ViTConfig

RATIOS = (2.0, 1.75, 1.5, 1.35, 1.2)
"""Ratios that are tried, one after the other, where neither a ratio nor a number of tokens is given."""
SHARES = (1 / 16, 1 / 8, 1 / 4)
MOVES = 40
IMAGES = 32
"""Calibration images that the search uses at most."""


class SchedulePlanner:
    """Makes the schedules that are tried; measures once what each block loses.

    Args:
        tower: the part whose tokens merge.
        target: how much to merge. Where it says neither a ratio nor tokens, `targets` are those of RATIOS.
        answers: returns the outputs (images, ...) of the model with a schedule, on calibration images.
        classes: whether the outputs are logits.
        on_search: called before the losses are measured.
    """

    def __init__(
        self,
        tower: ViTConfig,
        target: MergeTarget,
        answers: Callable[[Numbers], Array],
        *,
        classes: bool,
        on_search: Callable[[], None] = lambda: None,
    ) -> None:
        self._tower, self._answers, self._classes, self._on_search = tower, answers, classes, on_search
        self._losses: Losses | None = None
        self.compared: tuple[tuple[str, Numbers, float], ...] = ()
        """(kind, schedule, divergence) of each schedule in the last search."""
        asked = target.ratio is not None or target.tokens is not None
        self.targets = [target] if asked else [replace(target, ratio=ratio) for ratio in RATIOS]

    def plan(self, target: MergeTarget) -> Numbers:
        """The schedule for one of `targets`. Raises InputError where none merges so much."""
        if target.kind != "searched":
            return fit(self._tower, target.kind, ratio=target.ratio, tokens=target.tokens)
        if target.tokens is not None:
            fit(self._tower, "constant", tokens=target.tokens)  # refuses a wrong number of tokens
        if self._losses is None:
            self._on_search()
            self._losses = measure_losses(self._tower, self._answers, classes=self._classes)
        numbers, compared = search(self._tower, self._losses, target, self._answers, classes=self._classes)
        self.compared = tuple(compared)
        return numbers


def divergence(expected: Array, found: Array, *, classes: bool) -> float:
    """How far answers moved: the mean KL divergence for classifiers, else the mean of 1 - cosine."""
    if classes:
        before, after = log_softmax(expected), log_softmax(found)
        return float((np.exp(before) * (before - after)).sum(axis=-1).mean())
    return 1 - mean_cosine(expected, found)


@dataclass(frozen=True, eq=False)
class Losses:
    """The loss of each block as a function of the tokens that it alone merges."""

    levels: tuple[Numbers, ...]
    """For each block the numbers of tokens that were tried, 0 first."""
    lost: tuple[tuple[float, ...], ...]
    """For each block the divergence at each of these numbers."""

    def of(self, block: int, number: int) -> float:
        """The loss of `block` that merges `number` tokens: interpolated linearly, and extrapolated beyond the last."""
        levels, lost = self.levels[block], self.lost[block]
        if number <= levels[-1]:
            return float(np.interp(number, levels, lost))
        slope = (lost[-1] - lost[-2]) / (levels[-1] - levels[-2])
        return lost[-1] + max(slope, lost[-1] / levels[-1]) * (number - levels[-1])

    def total(self, numbers: Sequence[int]) -> float:
        """The sum of all blocks' losses."""
        return sum(self.of(block, numbers[block]) for block in range(len(self.lost)))


def measure_losses(
    tower: ViTConfig,
    answers: Callable[[Numbers], Array],
    *,
    classes: bool,
    on_schedule: Callable[[], None] = lambda: None,
) -> Losses:
    """Measures the losses of each block.

    `answers` returns the outputs (images, ...) of the model with a schedule; a schedule of zeros is the model as it is.
    """
    patches, blocks = tower.tokens - tower.prefix, merging_blocks(tower)
    levels = tuple(sorted({0, *(max(int(patches * share), 1) for share in SHARES)}))
    levels = tuple(level for level in levels if level <= patches // 2)
    expected = answers((0,) * tower.depth)
    lost = []
    for block in range(blocks):
        row = [0.0]
        for level in levels[1:]:
            numbers = tuple(level if index == block else 0 for index in range(tower.depth))
            # More merging cannot be better: a lower loss is noise, and would draw all merges to one block.
            row.append(max(divergence(expected, answers(numbers), classes=classes), row[-1], 0.0))
            on_schedule()
        lost.append(tuple(row))
    return Losses((levels,) * blocks, tuple(lost))


def grow(tower: ViTConfig, losses: Losses, target: MergeTarget) -> Numbers:
    """A schedule that meets the target, grown by one token at a time, where it costs least for the arithmetic it saves.

    Raises InputError when there are no more tokens to merge.
    """
    numbers: Numbers = (0,) * tower.depth
    while not target.is_met(tower, numbers):
        work = 1 / saved(tower, numbers)
        best, chosen = np.inf, numbers
        for block in range(len(losses.lost)):
            more = (number + (index == block) for index, number in enumerate(numbers))
            longer = clipped(tower, tuple(more))  # later blocks may have to merge less
            less = work - 1 / saved(tower, longer)
            if less <= 0:
                continue
            price = (losses.total(longer) - losses.total(numbers) + 1e-12) / less
            if price < best:
                best, chosen = price, longer
        if chosen == numbers:
            raise InputError(f"no schedule merges so much: {work:.0%} of the FLOPs is the least that can be left")
        numbers = chosen
    return numbers


def search(
    tower: ViTConfig, losses: Losses, target: MergeTarget, answers: Callable[[Numbers], Array], *, classes: bool
) -> tuple[Numbers, list[tuple[str, Numbers, float]]]:
    """The best schedule found, and (kind, schedule, divergence) of all that were compared, the best one last."""
    found = [("by block", grow(tower, losses, target))]
    for kind in ("constant", "decreasing"):
        try:
            found.append((kind, fit(tower, kind, ratio=target.ratio, tokens=target.tokens)))
        except InputError:
            continue  # a plain schedule cannot merge as much as the search can
    expected = answers((0,) * tower.depth)

    def loss_of(numbers: Numbers) -> float:
        return divergence(expected, answers(numbers), classes=classes)

    compared = [(kind, one, loss_of(one)) for kind, one in found]
    _, best, least = min(compared, key=lambda one: one[2])
    best, least = polish(tower, best, least, target, loss_of)
    return best, [*compared, ("searched", best, least)]


def polish(
    tower: ViTConfig, best: Numbers, least: float, target: MergeTarget, loss_of: Callable[[Numbers], float]
) -> tuple[Numbers, float]:
    """Moves tokens from one block to another, MOVES times with a fixed seed, and keeps each move that helps.

    Returns the schedule and its divergence, which is no larger than `least`, the divergence of `best`.
    """
    random, blocks = np.random.default_rng(0), merging_blocks(tower)
    seen = {best}
    for _ in range(MOVES if blocks > 1 else 0):  # a single block has none to give tokens to
        step = max((tower.tokens - tower.prefix) // int(random.choice((16, 32))), 1)
        away, to = random.permutation(blocks)[:2].tolist()
        moved = [max(number - step, 0) if index == away else number for index, number in enumerate(best)]
        for _ in range(2 * step + 1):
            if target.is_met(tower, clipped(tower, moved)):
                break
            moved[to] += 1
        numbers = clipped(tower, moved)
        if numbers in seen or not target.is_met(tower, numbers):
            continue
        seen.add(numbers)
        found = loss_of(numbers)
        if found < least:
            best, least = numbers, found
    return best, least
