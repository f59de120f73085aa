"""Accuracies of checkpoints on a user's own images: their intervals, differences and ties, and what they tell.

N images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.errors import UnknownNameError

TIE = 0.01
"""Accuracies that differ by no more are a tie, and the faster model wins."""
DRAWS = 2_000
"""Of the bootstrap: the ends of a 95 % interval are the 50th value from each side."""
_FAR = 0.2  # of the way from chance to 1 that nearest neighbours must go, or the domain looks far
_EASY = 0.98

Ends = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Scored:
    """One checkpoint: which images k-NN and ridge answered correctly, each image left out once."""

    source: str
    name: str
    neighbours: NDArray[np.bool_]
    """(N,) by k nearest neighbours."""
    ridge: NDArray[np.bool_]
    """(N,) by a ridge classifier."""
    seconds: float

    @property
    def right(self) -> NDArray[np.float64]:
        """(N,) 0, 0.5 or 1: the mean of the two."""
        return (self.neighbours.astype(np.float64) + self.ridge) / 2

    @property
    def accuracy(self) -> float:
        """What models are compared by: the mean of the accuracies of k-NN and ridge, 0 to 1."""
        return float(self.right.mean())


@dataclass(frozen=True, eq=False)
class Difference:
    """How much more accurate one checkpoint is than another, on the same images."""

    value: float
    interval: Ends
    """95 %, by bootstrap over images, the same images for both."""

    @property
    def tied(self) -> bool:
        """Whether it is within a point."""
        return abs(self.value) <= TIE

    @property
    def certain(self) -> bool:
        """Whether the interval is on one side of 0."""
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True, eq=False)
class OwnAccuracies:
    """Every checkpoint that was scored, in the order of scoring, small ones first."""

    data: str
    images: int
    """Images that were scored."""
    classes: int
    chance: float
    """Share of the largest class: what always answering it would reach."""
    groups: NDArray[np.int64]
    """(N,) a number that copies of one file share: they are drawn together."""
    rows: tuple[Scored, ...]
    failed: tuple[tuple[str, str], ...] = ()
    """Checkpoints that could not be scored, and why."""
    unfetched: tuple[str, ...] = ()
    """Names of checkpoints whose weights are not on this machine."""
    instead: str = ""
    """Why none was scored and what is done instead; '' where there are rows."""
    seed: int = 0

    def find(self, source: str) -> Scored:
        """The row of a checkpoint. Raises UnknownNameError."""
        found = next((row for row in self.rows if row.source == source), None)
        if found is None:
            raise UnknownNameError("checkpoint scored on these images", source, [row.source for row in self.rows])
        return found

    def interval(self, row: Scored) -> Ends:
        """The 95 % bootstrap interval of its accuracy over images."""
        return self._ends(row.right)

    def difference(self, one: Scored, other: Scored) -> Difference:
        """How much more accurate `one` is than `other`, with the interval of the paired bootstrap."""
        gap = one.right - other.right
        return Difference(float(gap.mean()), self._ends(gap))

    @property
    def best(self) -> Scored | None:
        """The most accurate; of equals the one that was scored first, which is smaller."""
        return max(self.rows, key=lambda row: row.accuracy, default=None)

    @property
    def tied(self) -> tuple[Scored, ...]:
        """Those within a point of the best, the best among them."""
        best = self.best
        return () if best is None else tuple(row for row in self.rows if self.difference(best, row).tied)

    def remarks(self) -> list[str]:
        """What a user should know of these accuracies, in sentences."""
        told = [f"{name} could not be scored: {reason}" for name, reason in self.failed]
        if self.instead:
            told.append(self.instead)
        best = self.best
        if best is None:
            return told
        nearest = max(row.neighbours.mean() for row in self.rows)
        gain = (nearest - self.chance) / (1 - self.chance) if self.chance < 1 else 0.0
        if gain < _FAR:
            told.append(
                f"the domain looks far: nearest neighbours are right for {nearest:.1%} of the images at most, and the "
                f"largest class alone is {self.chance:.1%}: choose by a short  vitsmith train  of two or three models"
            )
        if len(self.rows) > 2 and len(self.tied) == len(self.rows):
            easy = best.accuracy >= _EASY
            why = "these images are easy for all of them" if easy else "the domain may be far from what they know"
            told.append(f"all {len(self.rows)} models are within a point of each other: {why}; the fastest wins")
        unsure = [row for row in self.rows if row not in self.tied and not self.difference(best, row).certain]
        if unsure:
            told.append(
                f"{self.images:,} images do not tell {best.name} from {_listed([row.name for row in unsure])} with "
                "certainty: more images would"
            )
        return told

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; shares from 0 to 1, seconds."""
        best = self.best
        return {
            "data": self.data,
            "images": self.images,
            "classes": self.classes,
            "chance": self.chance,
            "rows": [
                {
                    "model": row.source,
                    "name": row.name,
                    "accuracy": row.accuracy,
                    "interval": list(self.interval(row)),
                    "knn": float(row.neighbours.mean()),
                    "ridge": float(row.ridge.mean()),
                    "below_best": None if best is None else self.difference(best, row).value,
                    "below_best_interval": None if best is None else list(self.difference(best, row).interval),
                    "tied": row in self.tied,
                    "seconds": row.seconds,
                }
                for row in self.rows
            ],
            "failed": [{"name": name, "reason": reason} for name, reason in self.failed],
            "unfetched": list(self.unfetched),
            "instead": self.instead,
            "remarks": self.remarks(),
        }

    def _ends(self, values: NDArray[np.float64]) -> Ends:
        """95 % interval of the mean of (N,) values: whole groups are drawn with replacement, always the same ones."""
        _, place = np.unique(self.groups, return_inverse=True)
        sizes, sums = np.bincount(place), np.bincount(place, values)
        random = np.random.default_rng(self.seed)
        drawn = random.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), DRAWS)  # (DRAWS, groups)
        low, high = np.percentile(drawn @ sums / (drawn @ sizes), (2.5, 97.5))
        return float(low), float(high)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
