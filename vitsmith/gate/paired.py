"""Two models on the same labelled images: how much top-1 drops from one to the other, and how sure that figure is.

Only the images that exactly one of them classifies correctly say anything about the difference. The interval of a
paired drop is therefore much narrower than the intervals of two separate accuracies suggest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.errors import InputError

_95_PERCENT = 1.959963984540054  # two-sided quantile of the normal distribution
_MOST_IMAGES = 10_000_000  # no larger number is suggested: nobody has so many labelled images


@dataclass(frozen=True)
class Paired:
    """Counts of right answers of two models, reference and candidate, on the same labelled images."""

    num_images: int
    lost: int
    """Images that only the reference classifies correctly."""
    gained: int
    """Images that only the candidate classifies correctly."""
    both: int
    """Images that both classify correctly."""

    def __post_init__(self) -> None:
        counts = (self.lost, self.gained, self.both)
        if self.num_images < 1 or min(counts) < 0 or sum(counts) > self.num_images:
            raise InputError(f"counts {counts} do not fit {self.num_images} images: give at least one image")

    def __str__(self) -> str:
        low, high = self.interval
        drop = f"drop {self.drop:.2f} points, 95% interval {low:.2f} to {high:.2f}"
        return f"top-1 {self.before:.2%} -> {self.after:.2%} ({drop})"

    @classmethod
    def of(cls, reference: NDArray[np.bool_], candidate: NDArray[np.bool_]) -> Paired:
        """Counts from (N,) arrays: whether each answer is right. Raises InputError for other shapes, and for N = 0."""
        if reference.shape != candidate.shape or reference.ndim != 1:
            raise InputError(
                f"top-1 of two models is compared image by image, but they have answers for {_count(reference)} "
                f"and {_count(candidate)}: give both the same images"
            )
        lost, gained, both = (
            int(np.count_nonzero(which))
            for which in (reference & ~candidate, ~reference & candidate, reference & candidate)
        )
        return cls(len(reference), lost, gained, both)

    @property
    def before(self) -> float:
        """Share of images, 0 to 1, that the reference classifies correctly."""
        return (self.both + self.lost) / self.num_images

    @property
    def after(self) -> float:
        """Share of images, 0 to 1, that the candidate classifies correctly."""
        return (self.both + self.gained) / self.num_images

    @property
    def drop(self) -> float:
        """Percentage points that the candidate loses; negative when it gains."""
        return 100 * (self.lost - self.gained) / self.num_images

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95% confidence interval of `drop`, in percentage points."""
        low, high = tango_interval(self.lost, self.gained, self.num_images)
        return 100 * low, 100 * high

    def is_open(self, allowed: float) -> bool:
        """Whether the interval contains both drops of at most `allowed` percentage points and larger ones."""
        low, high = self.interval
        return low <= allowed < high

    def images_to_tell(self, allowed: float) -> int | None:
        """About how many images would tell whether the drop is allowed, if they are answered as these are.

        None where no number would, because the drop is equal to `allowed`, or too near to it.
        """

        def tells(count: float) -> bool:
            share = count / self.num_images
            low, high = tango_interval(self.lost * share, self.gained * share, count)
            return not low <= allowed / 100 < high

        enough = float(self.num_images)
        while not tells(enough):
            enough *= 2
            if enough > _MOST_IMAGES:
                return None
        few = enough / 2
        while enough - few > 1:
            middle = (few + enough) / 2
            few, enough = (few, middle) if tells(middle) else (middle, enough)
        step = 10 ** max(math.floor(math.log10(enough)) - 1, 0)
        return math.ceil(enough / step) * step

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; drop and interval in percentage points."""
        return {
            "num_labelled_images": self.num_images,
            "only_before_right": self.lost,
            "only_after_right": self.gained,
            "drop_points": self.drop,
            "drop_interval": list(self.interval),
        }


def tango_interval(lost: float, gained: float, images: float) -> tuple[float, float]:
    """95% confidence interval of (lost - gained) / images, a difference of paired proportions, -1 to 1.

    The score interval of T. Tango, Statistics in Medicine 17 (1998), 891-908: all differences that a score test does
    not reject, with the other parameter at its most likely value. It has a width even when no answer differs. In
    tests/gate/test_paired.py, with 40 images, it contains the true difference in at least 94% of the draws.
    """

    def score(difference: float) -> float:
        linear = (2 * images - lost + gained) * difference - lost - gained
        root = math.sqrt(max(linear**2 + 8 * images * gained * difference * (1 - difference), 0.0))
        only_gained = (root - linear) / (4 * images)  # the most likely share of images gained, given the difference
        variance = images * (2 * only_gained + difference * (1 - difference))
        distance = lost - gained - images * difference
        if variance <= 0:
            return 0.0 if distance == 0 else math.copysign(math.inf, distance)
        return distance / math.sqrt(variance)

    def crossing(low: float, high: float, level: float) -> float:
        """The difference at which the score, which falls as the difference grows, is `level`."""
        for _ in range(60):  # halvings: to the last bits
            middle = (low + high) / 2
            low, high = (middle, high) if score(middle) > level else (low, middle)
        return (low + high) / 2

    found = (lost - gained) / images
    return crossing(-1.0, found, _95_PERCENT), crossing(found, 1.0, -_95_PERCENT)


def fewest_images(allowed: float) -> int | None:
    """Fewest images that show that top-1 drops by at most `allowed` percentage points, if no answer changes.

    None where no number does, because no drop is allowed. The interval of N such images ends at z^2 / (N + z^2).
    """
    share = allowed / 100
    if share <= 0:
        return None
    return max(math.ceil(_95_PERCENT**2 * (1 - share) / share), 1)


def _count(right: NDArray[np.bool_]) -> str:
    return f"{len(right):,} images" if right.ndim == 1 else f"an array {right.shape}"
