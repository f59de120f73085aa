"""Coloured shapes, drawn from their distance functions: smooth edges, and the same bytes on every machine.

The cover of a pixel is 1 inside the edge and 0 outside, and goes from 1 to 0 over the width of one pixel.
Only sums, products and roots are used, which every machine rounds alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE = 64
"""Height and width of a picture, in pixels."""

COLOURS = {
    "red": (210, 35, 35),
    "green": (30, 150, 50),
    "blue": (35, 60, 205),
    "yellow": (245, 225, 40),
    "orange": (245, 135, 20),
    "purple": (125, 35, 150),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
}
"""sRGB. The background is a middle grey, from which all of them differ clearly."""

OTHER_COLOURS = {
    "pink": (250, 175, 195),
    "salmon": (240, 135, 115),
    "magenta": (225, 30, 150),
    "brown": (120, 70, 35),
    "chocolate": (65, 38, 25),
    "tan": (220, 180, 130),
    "olive": (110, 110, 25),
    "lime": (190, 235, 70),
    "turquoise": (50, 205, 200),
    "teal": (10, 100, 105),
    "sky": (160, 220, 250),
    "charcoal": (65, 65, 70),
}
"""Other colours than `COLOURS`, to show a shape in."""

_SHADE = 5.0  # 8-bit levels of noise, up and down

Plane = NDArray[np.float64]
RGB = tuple[float, float, float]


class Thing(NamedTuple):
    """One coloured shape, and where it is."""

    colour: str
    """Its name; empty for a colour without one."""
    rgb: RGB
    """8-bit levels of sRGB."""
    shape: str
    size: str
    """'small' or 'large'."""
    y: float
    """Pixels from the upper edge of the picture to the middle of the shape."""
    x: float
    """Pixels from the left edge of the picture to the middle of the shape."""
    radius: float
    """Pixels from the middle of the shape to its farthest point."""
    tilt: float
    """Tangent of half the angle by which the shape is turned."""
    fades_to: RGB | None = None
    """The colour of its right edge, where it differs from that of the left edge."""


def draw_things(things: Sequence[Thing], background: Plane, noise: Plane) -> NDArray[np.uint8]:
    """Draw things on a plain background, the last in front: uint8 RGB of shape (SIZE, SIZE, 3).

    `background` is (3,) in 8-bit levels, `noise` (SIZE, SIZE, 3) in -1..1.
    """
    picture = np.broadcast_to(background, (SIZE, SIZE, 3)) + _SHADE * noise
    middles = np.arange(SIZE, dtype=np.float64) + 0.5
    for thing in things:
        rows, columns = (_reach(middle, thing.radius) for middle in (thing.y, thing.x))
        y, x = middles[rows, None] - thing.y, middles[None, columns] - thing.x
        cosine, sine = (1 - thing.tilt**2) / (1 + thing.tilt**2), 2 * thing.tilt / (1 + thing.tilt**2)
        distance = _DISTANCES[thing.shape](cosine * x + sine * y, cosine * y - sine * x, thing.radius)
        covered = np.clip(0.5 - distance, 0, 1)[..., None]
        there = picture[rows, columns]
        there += covered * (_colour(thing, x) + _SHADE * noise[rows, columns] - there)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _colour(thing: Thing, x: Plane) -> Plane:
    """The colour of each column, at distance `x` from the middle: (1, columns, 3)."""
    left = np.array(thing.rgb)
    share = np.clip(0.5 + x[..., None] / (1.2 * thing.radius), 0, 1)  # most shapes are narrower than their radius
    return left + share * (np.array(thing.fades_to or thing.rgb) - left)


def _reach(middle: float, radius: float) -> slice:
    return slice(max(math.floor(middle - radius) - 1, 0), min(math.ceil(middle + radius) + 1, SIZE))


# Distance of each point (x to the right, y down, from the middle of the shape) to its edge: negative inside. Beyond
# corners the computed distance is too small, which draws them a little sharper.


def _circle(x: Plane, y: Plane, radius: float) -> Plane:
    return np.sqrt(x * x + y * y) - 0.85 * radius


def _ring(x: Plane, y: Plane, radius: float) -> Plane:
    return np.abs(np.sqrt(x * x + y * y) - 0.72 * radius) - 0.2 * radius


def _square(x: Plane, y: Plane, radius: float) -> Plane:
    return np.maximum(np.abs(x), np.abs(y)) - 0.707 * radius


def _cross(x: Plane, y: Plane, radius: float) -> Plane:
    long, short = 0.95 * radius, 0.3 * radius
    along = np.maximum(np.abs(x) - long, np.abs(y) - short)
    return np.minimum(along, np.maximum(np.abs(x) - short, np.abs(y) - long))


def _triangle(x: Plane, y: Plane, radius: float) -> Plane:
    """A corner at the top."""
    return _sides(x, y, 3)[2] - 0.5 * radius


def _star(x: Plane, y: Plane, radius: float) -> Plane:
    """Five points, one at the top. A point is inside the star when it is inside at least four of its five lines."""
    return _sides(x, -y, 5)[3] - _INNER_FIFTH * radius


def _bar(x: Plane, y: Plane, radius: float) -> Plane:
    return np.maximum(np.abs(x) - 0.9 * radius, np.abs(y) - 0.35 * radius)


def _oval(x: Plane, y: Plane, radius: float) -> Plane:
    """Twice as high as wide; the distance is exact at its sides, and too small above and below."""
    return np.sqrt(x * x + y * y / 4) - 0.45 * radius


def _diamond(x: Plane, y: Plane, radius: float) -> Plane:
    return 0.83 * (np.abs(y) + 0.667 * np.abs(x) - 0.63 * radius)


def _dome(x: Plane, y: Plane, radius: float) -> Plane:
    """The upper half of a disc."""
    return np.maximum(np.sqrt(x * x + (y - 0.4 * radius) ** 2) - 0.9 * radius, y - 0.4 * radius)


def _sides(x: Plane, y: Plane, count: int) -> Plane:
    """Distances along the normals of a polygon that stands on a side, the nearest side last: (count, ...)."""
    return np.sort([x * across + y * down for across, down in _NORMALS[count]], axis=0)


# These are rounded, because the last digit of a sine differs from machine to machine.
_NORMALS = {
    count: [
        (round(math.sin(2 * math.pi * side / count), 6), round(math.cos(2 * math.pi * side / count), 6))
        for side in range(count)
    ]
    for count in (3, 5)
}
_INNER_FIFTH = 0.309017  # cos(72 degrees): from the middle of a pentagram to its lines, for points at distance 1

SHAPES: dict[str, Callable[[Plane, Plane, float], Plane]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
}
"""The shapes that captions name."""

OTHER_SHAPES: dict[str, Callable[[Plane, Plane, float], Plane]] = {
    "bar": _bar,
    "oval": _oval,
    "diamond": _diamond,
    "dome": _dome,
}
"""Other shapes than `SHAPES`, to show a colour on."""

_DISTANCES = SHAPES | OTHER_SHAPES
