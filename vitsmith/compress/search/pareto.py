"""Which of several programs are worth having: the Pareto front, its knee, and the one to take."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Choice = Literal["cheapest", "accurate", "knee"]


@dataclass(frozen=True)
class Point:
    """Accuracy and costs of one program."""

    top1: float
    """Share of right answers, 0 to 1."""
    latency_ms: float
    memory_mib: float
    size_mib: float


P = TypeVar("P", bound=Point)


def dominates(one: Point, other: Point) -> bool:
    """Whether `one` is nowhere worse than `other`, and somewhere better."""
    first, second = _costs(one), _costs(other)
    return first != second and all(a <= b for a, b in zip(first, second, strict=True))


def front(points: Sequence[P]) -> list[P]:
    """The points that no other point dominates, by latency; of equal points the first."""
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

    Uses the logarithm of latency (twice as fast counts the same anywhere) and scales both axes by their range. On a
    front without a bend it is the most accurate point. Raises ValueError for no points.
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


def choose(fitting: Sequence[P], choice: Choice) -> P | None:
    """The point to take among those that meet the requirements; None where there is none.

    'cheapest' takes the fastest, 'accurate' the most accurate (of equals the faster), 'knee' the one of `knee`.
    """
    if not fitting:
        return None
    if choice == "knee":
        return knee(front(fitting))
    if choice == "accurate":
        return min(fitting, key=lambda point: (-point.top1, point.latency_ms))
    return min(fitting, key=lambda point: (point.latency_ms, -point.top1))


def _costs(point: Point) -> tuple[float, float, float, float]:
    return -point.top1, point.latency_ms, point.memory_mib, point.size_mib
