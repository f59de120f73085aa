"""Which of several programs are worth having: the Pareto front, its knee, and the one that meets a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from vitsmith.finite import require_numbers

Choice = Literal["cheapest", "accurate", "knee"]


@dataclass(frozen=True)
class Point:
    """What one program costs, and what it gives for it."""

    top1: float
    """Share of right answers, 0 to 1."""
    latency_ms: float
    memory_mib: float
    size_mib: float


@dataclass(frozen=True)
class Budget:
    """What a program may cost and lose; None: any."""

    max_drop: float = 1.0
    """Percentage points of top-1, from the original's."""
    latency_ms: float | None = None
    memory_mib: float | None = None
    size_mib: float | None = None

    def __post_init__(self) -> None:
        require_numbers(self)

    @property
    def is_bounded(self) -> bool:
        """Whether anything but accuracy is bounded."""
        return not (self.latency_ms is None and self.memory_mib is None and self.size_mib is None)

    def objections(self, point: Point, original_top1: float) -> list[str]:
        """Why the point does not fit, in words; [] when it does."""
        drop = 100 * (original_top1 - point.top1)
        said = [f"loses {drop:.2f} points (allowed {self.max_drop:g})"] if drop > self.max_drop + 1e-9 else []
        for what, value, most, unit in (
            ("takes", point.latency_ms, self.latency_ms, "ms"),
            ("needs", point.memory_mib, self.memory_mib, "MiB of memory"),
            ("is", point.size_mib, self.size_mib, "MiB large"),
        ):
            if most is not None and value > most:
                said.append(f"{what} {value:.3g} {unit} (allowed {most:g})")
        return said


P = TypeVar("P", bound=Point)


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better."""
    first, second = _costs(one), _costs(other)
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def front(points: Sequence[P]) -> list[P]:
    """The points that no other one dominates, by latency; of equal ones the first."""
    kept: list[P] = []
    for index, point in enumerate(points):
        if any(dominates(other, point) for other in points) or any(
            _costs(other) == _costs(point) for other in points[:index]
        ):
            continue
        kept.append(point)
    return sorted(kept, key=lambda point: point.latency_ms)


def knee(points: Sequence[P]) -> P:
    """Where a front bends: the point farthest above the line from its fastest to its most accurate point.

    Latency counts by its logarithm (twice as fast is as much anywhere), both axes over their range. On a front without
    a bend it is the most accurate point. Raises ValueError for no points.
    """
    if not points:
        raise ValueError("no points, no knee")
    best = max(points, key=lambda point: (point.top1, -point.latency_ms))
    fastest = min(points, key=lambda point: (point.latency_ms, -point.top1))
    time_range = math.log(best.latency_ms / fastest.latency_ms)
    top1_range = best.top1 - fastest.top1
    if time_range <= 0 or top1_range <= 0:
        return best if top1_range > 0 else fastest

    def above(point: P) -> float:
        right = math.log(point.latency_ms / fastest.latency_ms) / time_range
        return (point.top1 - fastest.top1) / top1_range - right

    bend = max(points, key=above)
    return bend if above(bend) > 1e-9 else best


def choose(points: Sequence[P], original_top1: float, budget: Budget, choice: Choice) -> P | None:
    """The point to take of those that fit the budget; None when none does.

    'cheapest' is the fastest, 'accurate' the one that loses least (of equals the faster), 'knee' see there.
    """
    fitting = [point for point in points if not budget.objections(point, original_top1)]
    if not fitting:
        return None
    if choice == "knee":
        return knee(front(fitting))
    if choice == "accurate":
        return min(fitting, key=lambda point: (-point.top1, point.latency_ms))
    return min(fitting, key=lambda point: (point.latency_ms, -point.top1))


def _costs(point: Point) -> tuple[float, float, float, float]:
    return -point.top1, point.latency_ms, point.memory_mib, point.size_mib
