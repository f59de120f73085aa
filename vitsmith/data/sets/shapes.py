"""Drawn scenes with captions, such as 'a small red circle above a blue square': training pairs without any download.

Some combinations of colour and shape are in no training scene, neither drawn nor named. A model that recognises them
has learnt what 'red' and 'star' each mean, and not only what a red star looks like. `HELD_OUT` fixes these
combinations, so that scores can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.sets.drawing import COLOURS, OTHER_COLOURS, OTHER_SHAPES, SHAPES, SIZE, Thing, draw_things
from vitsmith.data.sets.samples import Lazy, Samples, Splits, label_positions, sort_classes

HELD_OUT = (
    ("red", "star"),
    ("green", "ring"),
    ("blue", "triangle"),
    ("blue", "ring"),
    ("yellow", "circle"),
    ("orange", "cross"),
    ("orange", "square"),
    ("purple", "square"),
    ("black", "circle"),
    ("white", "star"),
)
"""The combinations (colour, shape) without a training image or caption: 10 of 48."""

ALL = tuple((colour, shape) for colour in COLOURS for shape in SHAPES)
SEEN = tuple(pair for pair in ALL if pair not in HELD_OUT)

RADII = {"small": (7.5, 9.5), "large": (12.0, 14.5)}
"""Pixels from the centre of a thing to its farthest point, at 64x64."""

RELATIONS = ("above", "below", "left of", "right of")
"""The relations between the first and the second thing that a caption names."""

TRAIN, VAL, UNSEEN, LABELLED = range(4)  # parts of the data set; each has its own random numbers

GREYS = (120.0, 190.0)
"""Darkest and lightest background, in 8-bit levels, before it is tinted."""

# Cumulative shares of the labelled things: (1) another shape, labelled by colour; (2) a seen combination, labelled by
# colour; (3) a seen combination, labelled by shape (otherwise training on colours would unlearn shapes); (4) another
# colour, labelled by shape. The rest fade from one colour to another and are labelled by shape.
_SHARES = (0.1, 0.25, 0.35, 0.65)

_BEGINNINGS = ("", "", "", "", "", "a picture of ", "a photo of ", "a drawing of ")
_RGB = COLOURS | OTHER_COLOURS
_FADE = (
    150.0  # 8-bit levels: least distance in RGB between the ends of a thing that fades, so that no one colour name fits
)
_SHADES = 12.0  # largest difference of a colour from its usual value, in 8-bit levels
_AROUND = 8.0  # largest distance of a single thing from the middle of the picture, in pixels, each way
_ACROSS = 32.0  # pixels between the middles of two things, before each is moved
_MOVED = (
    1.5,
    8.0,
)  # largest moves in pixels, along the line between them and across it: 'above' never becomes 'beside'


class Scene(NamedTuple):
    """One or two things, and a caption."""

    things: tuple[Thing, ...]
    """The things in the order of the caption."""
    relation: str
    """The relation of the first thing to the second, one of `RELATIONS`; empty with one thing."""
    caption: str


class _Draws:
    """Random choices made from uniform numbers only, which NumPy keeps the same from version to version."""

    def __init__(self, *key: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(key))

    def below(self, count: int) -> int:
        return int(self._random.random() * count)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self._random.random())

    def chance(self, share: float) -> bool:
        return float(self._random.random()) < share

    def uniform(self, *shape: int) -> NDArray[np.float64]:
        """Numbers in [-1, 1)."""
        return self._random.random(shape) * 2 - 1


def sample_scene(seed: int, part: int, index: int) -> Scene:
    """The scene number `index` of a part; the same on every machine.

    `TRAIN` and `VAL` have one or two things of the combinations in `SEEN`; `UNSEEN` has one thing of those in
    `HELD_OUT`, in turn. `LABELLED` has one thing as `labelled_shapes` says, and one word as its caption.
    """
    return _sample(_Draws(seed, part, index), part, index)


def draw_scene(seed: int, part: int, index: int) -> NDArray[np.uint8]:
    """The picture of `sample_scene`: uint8 RGB of shape (64, 64, 3)."""
    draws = _Draws(seed, part, index)
    scene = _sample(draws, part, index)
    grey = draws.between(*GREYS)
    background = np.array([grey + draws.between(-20, 20) for _ in range(3)])
    return draw_things(scene.things, background, draws.uniform(SIZE, SIZE, 3))


def captioned_shapes(split: str, *, seed: int = 0, count: int | None = None) -> Samples:
    """8,000 scenes of the split 'train' or 500 of 'val', with one or two things; the classes are their captions."""
    part, usual = {"train": (TRAIN, 8000), "val": (VAL, 500)}[split]
    captions = [sample_scene(seed, part, index).caption for index in range(usual if count is None else count)]
    return _samples(seed, part, split, captions, sort_classes(captions))


def unseen_shapes(*, seed: int = 0, each: int = 50) -> Samples:
    """Single things of the combinations in `HELD_OUT`, `each` images of every combination.

    The classes are all 48 names, such as 'red circle', of which ten have images: choosing among all 48 is a hard test
    of zero-shot generalisation.
    """
    names = [name_of(*HELD_OUT[index % len(HELD_OUT)]) for index in range(each * len(HELD_OUT))]
    return _samples(seed, UNSEEN, "unseen", names, [name_of(*pair) for pair in ALL])


def labelled_shapes() -> Splits:
    """Single things, each labelled with one word: 14 classes, 8 colours and 6 shapes; 16,000 and 1,000 scenes.

    An image tower is trained on them before it is locked. A quarter are of the combinations in `SEEN`. The others are
    unlike anything that captions name: the eight colours are also shown on `OTHER_SHAPES`, and the six shapes in
    `OTHER_COLOURS` or fading from one colour to another, where one end may be the colour of a held-out combination. On
    `SEEN` alone, a model learns that no star is red before it learns what a star looks like, and takes a red star for
    another shape.
    """
    return Splits(_worded("train", 0, 16000), _worded("val", 16000, 1000))


def name_of(colour: str, shape: str) -> str:
    """'red circle'."""
    return f"{colour} {shape}"


def _worded(name: str, first: int, count: int) -> Samples:
    scenes = (sample_scene(0, LABELLED, index) for index in range(first, first + count))
    return _samples(0, LABELLED, name, [scene.caption for scene in scenes], (*COLOURS, *SHAPES), first)


def _samples(seed: int, part: int, name: str, labels: Sequence[str], classes: Sequence[str], first: int = 0) -> Samples:
    return Samples(
        classes=tuple(classes),
        sources=Lazy(len(labels), lambda index: draw_scene(seed, part, first + index)),
        names=[f"shapes/{name}/{index:05d}" for index in range(len(labels))],
        labels=label_positions(labels, classes),
    )


def _sample(draws: _Draws, part: int, index: int) -> Scene:
    if part == UNSEEN:
        return _one_thing(draws, HELD_OUT[index % len(HELD_OUT)])
    if part == LABELLED:
        return _one_word(draws)
    first = SEEN[draws.below(len(SEEN))]
    if draws.chance(0.5):
        return _one_thing(draws, first)
    others = [pair for pair in SEEN if pair != first]
    return _two_things(draws, first, others[draws.below(len(others))])


def _one_word(draws: _Draws) -> Scene:
    kind = draws.between(0, 1)
    if kind < _SHARES[0]:
        pair = (tuple(COLOURS)[draws.below(len(COLOURS))], tuple(OTHER_SHAPES)[draws.below(len(OTHER_SHAPES))])
    elif kind < _SHARES[2]:
        pair = SEEN[draws.below(len(SEEN))]
    else:
        pair = (tuple(OTHER_COLOURS)[draws.below(len(OTHER_COLOURS))], tuple(SHAPES)[draws.below(len(SHAPES))])
    scene = _one_thing(draws, pair)._replace(caption=pair[0 if kind < _SHARES[1] else 1])
    return scene if kind < _SHARES[3] else scene._replace(things=(_fading(draws, scene.things[0]),))


def _fading(draws: _Draws, thing: Thing) -> Thing:
    """Let a thing fade from one of the eight colours to another that is far from it, in either direction."""
    one = tuple(COLOURS)[draws.below(len(COLOURS))]
    far = [other for other, rgb in _RGB.items() if math.dist(rgb, _RGB[one]) >= _FADE]
    ends = (_shade(draws, one), _shade(draws, far[draws.below(len(far))]))
    left, right = ends if draws.chance(0.5) else ends[::-1]
    return thing._replace(colour="", rgb=left, fades_to=right)


def _one_thing(draws: _Draws, pair: tuple[str, str]) -> Scene:
    size, radius = _sample_size(draws)
    middle = (SIZE / 2 + draws.between(-_AROUND, _AROUND), SIZE / 2 + draws.between(-_AROUND, _AROUND))
    thing = Thing(pair[0], _shade(draws, pair[0]), pair[1], size, *middle, radius, draws.between(-0.12, 0.12))
    described = _describe(draws, thing)
    bare = described.partition(" ")[2]
    caption = bare if draws.chance(0.15) else _BEGINNINGS[draws.below(len(_BEGINNINGS))] + described
    return Scene((thing,), "", caption)


def _two_things(draws: _Draws, first: tuple[str, str], second: tuple[str, str]) -> Scene:
    relation = RELATIONS[draws.below(len(RELATIONS))]
    before = -1 if relation in ("above", "left of") else 1  # smaller y is above, smaller x is left
    things = []
    for pair, side in ((first, before), (second, -before)):
        size, radius = _sample_size(draws)
        along = SIZE / 2 + side * _ACROSS / 2 + draws.between(-_MOVED[0], _MOVED[0])
        beside = SIZE / 2 + draws.between(-_MOVED[1], _MOVED[1])
        y, x = (along, beside) if relation in ("above", "below") else (beside, along)
        things.append(Thing(pair[0], _shade(draws, pair[0]), pair[1], size, y, x, radius, draws.between(-0.12, 0.12)))
    beginning = _BEGINNINGS[draws.below(len(_BEGINNINGS))]
    caption = f"{beginning}{_describe(draws, things[0])} {relation} {_describe(draws, things[1])}"
    return Scene(tuple(things), relation, caption)


def _shade(draws: _Draws, colour: str) -> tuple[float, float, float]:
    red, green, blue = (level + draws.between(-_SHADES, _SHADES) for level in _RGB[colour])
    return red, green, blue


def _sample_size(draws: _Draws) -> tuple[str, float]:
    size = tuple(RADII)[draws.below(len(RADII))]
    return size, draws.between(*RADII[size])


def _describe(draws: _Draws, thing: Thing) -> str:
    words = f"{thing.size} {thing.colour} {thing.shape}" if draws.chance(0.5) else name_of(thing.colour, thing.shape)
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
