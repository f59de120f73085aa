"""Figures with their interval, mark and source, and budgets, which figures keep, may miss or miss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Mark(StrEnum):
    """Where a figure is from."""

    published = "published"
    predicted = "predicted"
    measured = "measured"


class Standing(StrEnum):
    """What a figure says about a budget; `within` is said of predictions, `kept` of measurements alone."""

    kept = "kept"
    within = "within"
    may_miss = "may miss"
    misses = "misses"
    unknown = "unknown"


@dataclass(frozen=True)
class MarkedFigure:
    """A number that says how sure it is, and who says so."""

    value: float
    low: float
    high: float
    """Ends of the interval: 90 % for predictions. Equal to `value` for published figures, which state none."""
    mark: Mark
    source: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        interval = None if self.low == self.high else [self.low, self.high]
        return {"value": self.value, "interval": interval, "mark": self.mark.value, "source": self.source}


def published(value: float, source: str) -> MarkedFigure:
    """A published figure, which has no interval."""
    return MarkedFigure(value, value, value, Mark.published, source)


def computed(value: float) -> MarkedFigure:
    """A figure that follows from a model's configuration."""
    return MarkedFigure(value, value, value, Mark.predicted, "computed from the configuration")


MOST = ("latency", "memory", "size", "gflops")
"""Budgets that a figure must not exceed, in seconds, bytes, bytes, and 10^9 operations of one image."""
LEAST = ("throughput",)
"""Budgets that a figure must reach, in images a second."""
BUDGETS = ("latency", "throughput", "memory", "size", "gflops")
Budgets = Mapping[str, float]
"""Limit by name, one of BUDGETS."""


def judge(name: str, limit: float, figure: MarkedFigure | None) -> Standing:
    """What a figure says about the budget `name`. The whole interval must be within; a limit itself is within."""
    if figure is None:
        return Standing.unknown
    worst, best = (figure.high, figure.low) if name in MOST else (figure.low, figure.high)
    if keeps(name, limit, worst):
        return Standing.kept if figure.mark == Mark.measured else Standing.within
    return Standing.may_miss if keeps(name, limit, best) else Standing.misses


def keeps(name: str, limit: float, value: float) -> bool:
    """Whether a number keeps a budget; the limit itself does."""
    return value <= limit if name in MOST else value >= limit


def excess(name: str, limit: float, figure: MarkedFigure) -> float:
    """The factor by which the worse end of a figure's interval misses a budget; at most 1 where it does not."""
    if name in MOST:
        return figure.high / limit
    return limit / figure.low if figure.low > 0 else float("inf")


def relaxed(name: str, figure: MarkedFigure) -> float:
    """The limit that the whole interval of a figure is just within."""
    return figure.high if name in MOST else figure.low
