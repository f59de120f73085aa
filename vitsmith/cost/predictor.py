"""From the times of short models to the time of any: the physical form, and what it leaves over between sizes.

A plain model of t tokens and width D with 12 blocks, and one more block of it, are known at the calibrated t and D from
two depths. What the form leaves over of the logarithms of both is smoothed over log t and log D, and added to the form
of the model that is asked for. Far from all that was measured the form alone remains, and the interval is wide.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.form import Form
from vitsmith.cost.probes import plain
from vitsmith.cost.profile import Timed
from vitsmith.cost.residuals import Residuals
from vitsmith.cost.work import TERMS, Work, WorkPart, work_of
from vitsmith.models.config import ModelConfig, ViTConfig

DEPTH = 12
"""Blocks of the model whose whole time is interpolated: as many as most have."""
LENGTHS = np.array([0.9, 0.9, 1.5])
"""Log tokens, log width and log batch over which what the form leaves over changes."""
NOISE = 0.02
"""Deviation of the median of a few calls on a quiet machine, as a share."""
FRONT = 0.1
"""Deviation of the time of a ResNet front, which the form alone predicts; assumed from two that were 7 and 19 % off."""
_SMALL = {"gelu_erf", "gelu_quick", "gates", "turns", "scales", "head_norms"}
"""Kinds of work that take a small share of a model's time: where they were not timed, that of GELU stands for them."""
_WORDS = {
    "transposes": "an MLP-Mixer", "merged": "merged tokens", "convolutions": "a ResNet", "root": "a ResNet",
    "kernels": "a ResNet", "maps": "a ResNet", "turns": "rotary positions", "gates": "a gated MLP",
    "scales": "LayerScale", "head_norms": "norms of heads", "gelu_erf": "erf GELU", "gelu_quick": "quick GELU",
}  # fmt: skip
_PLAIN = {"call", "block", "products", "weights", "rows", "attention", "scores", "norms", "gelu_tanh", "pixels"}
"""Kinds of work of plain models."""


@dataclass(frozen=True)
class Seconds:
    """A predicted time."""

    seconds: float
    deviation: float
    """Of its logarithm, from the form and what is left over; the machine's unsteadiness is not in it."""


class TimePredictor:
    """Predicts the time of calls of one engine, in one precision and opened for one goal.

    Args:
        timed: short models with the seconds of their calls.
        usual: seconds of the reference model on this machine as it mostly is.
        prior: the form of the same engine opened for another goal, for what `timed` does not tell.
    """

    def __init__(self, timed: Sequence[Timed], usual: float, prior: Form | None = None) -> None:
        works = [work_of(one.config, one.batch) for one in timed]
        seconds = np.array([one.median(usual) for one in timed])
        counts = np.array([work.counts for work in works])
        form = Form.fit(counts, seconds, prior)
        self._untimed = {name for name, most in zip(TERMS, counts.max(axis=0), strict=True) if most == 0}
        self.form = form.with_guesses(dict.fromkeys(self._untimed & _SMALL, "gelu_tanh"))
        left = np.log(seconds / (counts @ self.form.factors))
        self.error = float(np.sqrt(np.mean(left**2)))
        """Deviation of the logarithms of `seconds` from the form."""
        rows = list(self._left_over(timed, works, seconds))
        places = np.array([row.place for row in rows]).reshape(len(rows), len(LENGTHS))
        self._whole = Residuals.fit(places, *_columns(rows, 0))
        self._block = Residuals.fit(places, *_columns(rows, 1))
        self._known: dict[tuple[int, int, int], tuple[float, float, float]] = {}

    def predict(self, config: ModelConfig, batch: int) -> Seconds:
        """The time of one call of `batch` images, for a program that computes them at once.

        Raises UnpredictedError for a model with a large part that was not timed.
        """
        work = work_of(config, batch)
        if large := [name for name in self.guessed(work) if name not in _SMALL]:
            told = " and ".join(dict.fromkeys(_WORDS[name] for name in large))
            raise UnpredictedError(f"the time of {told} is not known: this engine was calibrated without")
        front = 0.0 if work.front is None else self.form.seconds(work.front.counts)
        if work.family == "mixer":
            return Seconds(self.form.seconds(work.counts), self.error + NOISE)
        whole, whole_deviation = self._whole.at(_place(work.outer, batch))
        total = math.exp(whole) * self.form.seconds(work.outer.counts)
        more, deviation, depth = 0.0, whole_deviation * (total + front), len(work.blocks)
        often = Counter(map(id, work.blocks))
        for part in {id(part): part for part in work.blocks}.values():
            seconds = often[id(part)] * self.form.seconds(part.counts)
            here, block, block_deviation = self._left_at(part.tokens, part.width, batch)
            total += math.exp(here) * seconds
            more += (math.exp(block) - math.exp(here)) * seconds
            beyond = (depth - (DEPTH - 2)) / depth
            deviation += seconds * (whole_deviation + abs(beyond) * block_deviation)
        if depth:
            total += (depth - (DEPTH - 2)) * more / depth
        parts = 0.5 * self.error * self._unusual(work) + self._guessed_share(work) + FRONT * front / (total + front)
        return Seconds(total + front, math.hypot(deviation / (total + front), parts))

    def _left_at(self, tokens: int, width: int, batch: int) -> tuple[float, float, float]:
        """(what is left over of the whole, of a block, and the deviation of that); models share their sizes."""
        key = tokens, width, batch
        if key not in self._known:
            place = np.log(key) / LENGTHS
            (here, _), (block, deviation) = self._whole.at(place), self._block.at(place)
            self._known[key] = here, block, deviation
        return self._known[key]

    def guessed(self, work: Work) -> list[str]:
        """Kinds of work that were not timed, in the order of TERMS."""
        return [name for name, count in zip(TERMS, work.counts, strict=True) if count and name in self._untimed]

    def guessed_parts(self, config: ModelConfig) -> list[str]:
        """The same of a model, in words."""
        return list(dict.fromkeys(_WORDS[name] for name in self.guessed(work_of(config))))

    def _guessed_share(self, work: Work) -> float:
        """The share of the time in work that was not timed."""
        shares = self.form.shares(work.counts)
        return sum(shares.get(name, 0.0) for name in self.guessed(work))

    def _unusual(self, work: Work) -> float:
        """The share of the time in work that plain models do not have, as the form tells it."""
        shares = self.form.shares(work.counts)
        return sum(share for name, share in shares.items() if name not in _PLAIN)

    def _left_over(self, timed: Sequence[Timed], works: Sequence[Work], seconds: Array) -> Iterator[_LeftOver]:
        """What the form leaves over of plain models that were timed at two depths."""
        pairs: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for number, (one, work) in enumerate(zip(timed, works, strict=True)):
            config = one.config
            if isinstance(config, ViTConfig) and config == plain(config.width, config.grid[0], config.depth):
                pairs[config.width, work.outer.tokens, one.batch].append(number)
        for numbers in pairs.values():
            low, *_, high = sorted(numbers, key=lambda number: timed[number].config.depth) * 2
            shallow, deep = timed[low].config.depth, timed[high].config.depth
            if shallow == deep or seconds[high] <= seconds[low]:  # one depth alone; a moment of the machine
                continue
            more = (seconds[high] - seconds[low]) / (deep - shallow)
            beyond = (DEPTH - deep) / (deep - shallow)
            whole = seconds[high] + (DEPTH - deep) * more
            block = self.form.seconds(works[high].blocks[0].counts)
            expected = self.form.seconds(works[high].outer.counts) + (DEPTH - 2) * block
            yield _LeftOver(
                _place(works[high].outer, timed[high].batch),
                (math.log(whole / expected), math.log(more / block)),
                (
                    math.hypot(seconds[high] * (1 + beyond), seconds[low] * beyond) / whole,
                    math.hypot(seconds[high], seconds[low]) / (seconds[high] - seconds[low]),
                ),
            )


@dataclass(frozen=True)
class _LeftOver:
    """What the form leaves over of a plain model, (of 12 blocks, of one block more), at its place."""

    place: Array
    left: tuple[float, float]
    noise: tuple[float, float]
    """By which factor the noise of a time grows on the way to `left`."""


def _place(part: WorkPart, batch: int) -> Array:
    return np.log([part.tokens, part.width, batch]) / LENGTHS


def _columns(rows: Sequence[_LeftOver], column: int) -> tuple[Array, Array]:
    """(what is left over, its noise), each (n,)."""
    left = np.array([row.left[column] for row in rows])
    return left, NOISE * np.array([row.noise[column] for row in rows])
