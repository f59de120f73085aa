"""A scatter plot in the page itself, as SVG with a text for each point that a pointer shows; drawn without matplotlib.

Colours are the page's, light or dark. It is laid out twice, for a desk and for a phone, so that letters stay legible.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SIZES = {"desk": (760, 440), "phone": (380, 400)}
"""(width, height) of each layout, in units of the drawing; letters have 13 of them."""
LEFT, RIGHT, TOP, BOTTOM = 52.0, 16.0, 14.0, 46.0
_STEPS = (1, 2, 5)
_MARGIN = 0.04


@dataclass(frozen=True)
class Dot:
    """A point; `low` and `high` are the ends of its horizontal interval."""

    x: float
    y: float
    text: str
    """What a pointer shows; lines are separated by line breaks."""
    kind: str
    """The class of its look: 'within', 'may', 'misses'."""
    low: float | None = None
    high: float | None = None
    ringed: bool = False


@dataclass(frozen=True)
class Line:
    """A dashed vertical line at a limit."""

    x: float
    text: str


@dataclass(frozen=True)
class Scatter:
    """A plot whose horizontal axis is logarithmic."""

    title: str
    caption: str
    alt: str
    x: str
    """What the horizontal axis shows."""
    y: str
    points: tuple[Dot, ...]
    front: tuple[tuple[float, float], ...] = ()
    """(x, y) of the points that a line of steps joins."""
    lines: tuple[Line, ...] = ()

    @property
    def views(self) -> list[Canvas]:
        """The layouts."""
        return [Canvas(self, name, *size) for name, size in SIZES.items()]


class Canvas:
    """One layout: where everything lies."""

    def __init__(self, plot: Scatter, name: str, width: int, height: int) -> None:
        self.plot, self.name, self.width, self.height = plot, name, width, height
        ends = [end for one in plot.points for end in (one.low or one.x, one.high or one.x)]
        xs = [math.log10(x) for x in (*ends, *(line.x for line in plot.lines))] or [0.0]
        ys = [one.y for one in plot.points] or [0.0]
        self._x = _widened(min(xs), max(xs))
        self._y = _widened(min(ys), max(ys))

    def x(self, value: float) -> float:
        """Where a value lies horizontally."""
        low, high = self._x
        return round(LEFT + (math.log10(value) - low) / (high - low) * (self.width - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """Where a value lies vertically."""
        low, high = self._y
        return round(self.height - BOTTOM - (value - low) / (high - low) * (self.height - TOP - BOTTOM), 1)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """(place, number) of the ticks of a logarithmic axis, at most one each 44 units."""
        low, high = self._x
        powers = range(math.floor(low), math.ceil(high) + 1)
        values = [step * 10.0**power for power in powers for step in _STEPS]
        inside = [value for value in values if low <= math.log10(value) <= high]
        return list(_apart([(self.x(value), f"{value:g}") for value in inside], 44))

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """(place, number) of the ticks of the vertical axis: about five."""
        low, high = self._y
        rough = (high - low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next((power * one for one in (1, 2, 5) if power * one >= rough), power * 10)
        first = math.ceil(low / step)
        return [(self.y(at * step), f"{at * step:g}") for at in range(first, math.floor(high / step) + 1)]

    @property
    def steps(self) -> str:
        """The line of the front, as points of an SVG: to the right, then up."""
        places: list[tuple[float, float]] = []
        for x, y in self.plot.front:
            if places:
                places.append((self.x(x), places[-1][1]))
            places.append((self.x(x), self.y(y)))
        return " ".join(f"{x},{y}" for x, y in places)

    @property
    def bottom(self) -> float:
        """Where the horizontal axis lies."""
        return self.height - BOTTOM

    @property
    def left(self) -> float:
        return LEFT

    @property
    def right(self) -> float:
        return self.width - RIGHT

    @property
    def top(self) -> float:
        return TOP


def _widened(low: float, high: float) -> tuple[float, float]:
    """A range with a margin, which is never empty."""
    more = max(_MARGIN * (high - low), 0.05)
    return low - more, high + more


def _apart(ticks: Sequence[tuple[float, str]], least: float) -> Iterable[tuple[float, str]]:
    last = -math.inf
    for place, text in ticks:
        if place - last >= least:
            last = place
            yield place, text
