"""The drawn scenes: what a caption says is what the pixels show, and held-out combinations are nowhere."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vitsmith.data.sets import shapes
from vitsmith.data.sets.datasets import open_dataset
from vitsmith.data.sets.drawing import COLOURS, OTHER_COLOURS, OTHER_SHAPES, SHAPES, SIZE, Thing, draw_things

AREA = {"circle": 2.27, "ring": 1.81, "square": 2.0, "triangle": 1.3, "star": 1.12, "cross": 1.92}
"""Of a shape with radius 1. A mask lacks the pixels of the edge."""

THING = rf"(?:an? )?(?:(small|large) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})"
CAPTION = re.compile(rf"(?:a (?:picture|photo|drawing) of )?{THING}(?: (above|below|left of|right of) {THING})?")


def polygon(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Which points (N, 2) lie within: the even-odd rule, corner by corner."""
    inside = np.zeros(len(points), bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        crosses = (y0 > points[:, 1]) != (y1 > points[:, 1])
        with np.errstate(divide="ignore", invalid="ignore"):
            at = x0 + (points[:, 1] - y0) / (y1 - y0) * (x1 - x0)
        inside ^= crosses & (points[:, 0] < at)
    return inside


def around(count: int, radii: list[float]) -> np.ndarray:
    """Corners at equal angles, the first straight up, y down."""
    angles = 2 * np.pi * np.arange(count) / count
    lengths = np.resize(radii, count)
    return np.stack([lengths * np.sin(angles), -lengths * np.cos(angles)], axis=-1)


def cover(shape: str, radius: float, points: np.ndarray) -> np.ndarray:
    """Which points (N, 2), x to the right and y down, a shape covers: written down a second time, by its corners."""
    far = np.hypot(points[:, 0], points[:, 1])
    if shape == "circle":
        return far < 0.85 * radius
    if shape == "ring":
        return (far > 0.52 * radius) & (far < 0.92 * radius)
    if shape == "square":
        half = 0.707 * radius
        return polygon(np.array([[-half, -half], [half, -half], [half, half], [-half, half]]), points)
    if shape == "triangle":
        return polygon(around(3, [radius]), points)
    if shape == "star":
        inner = np.cos(2 * np.pi / 5) / np.cos(np.pi / 5)
        return polygon(around(10, [radius, radius * inner]), points)
    x, y = points.T
    if shape == "bar":
        return (np.abs(x) < 0.9 * radius) & (np.abs(y) < 0.35 * radius)
    if shape == "oval":
        return (x / 0.45) ** 2 + (y / 0.9) ** 2 < radius**2
    if shape == "diamond":
        wide, high = 0.945 * radius, 0.63 * radius
        return polygon(np.array([[-wide, 0], [0, high], [wide, 0], [0, -high]]), points)
    if shape == "dome":
        return (np.hypot(x, y - 0.4 * radius) < 0.9 * radius) & (y < 0.4 * radius)
    far_end, near = 0.95 * radius, 0.3 * radius
    x, y = np.abs(x), np.abs(y)
    return ((x < far_end) & (y < near)) | ((x < near) & (y < far_end))


@pytest.mark.parametrize("shape", [*SHAPES, *OTHER_SHAPES])
@pytest.mark.parametrize("radius", [6.0, 13.5])
def test_shapes_are_those_of_their_corners(shape, radius) -> None:
    tilt, y, x = 0.1, 30.3, 33.8
    thing = Thing("black", (20, 20, 20), shape, "large", y, x, radius, tilt)
    drawn = draw_things([thing], np.full(3, 220.0), np.zeros((SIZE, SIZE, 3)))[..., 0]
    fine = (np.arange(SIZE * 8) + 0.5) / 8
    across, down = np.meshgrid(fine - x, fine - y)
    angle = 2 * np.arctan(tilt)
    turned = np.stack(
        [np.cos(angle) * across + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * across], axis=-1
    )
    inside = cover(shape, radius, turned.reshape(-1, 2)).reshape(SIZE, 8, SIZE, 8).mean(axis=(1, 3))
    expected = 220 + inside * (20.0 - 220.0)
    assert np.abs(drawn - expected).mean() < 0.35
    plain = (inside == 0) | (inside == 1)
    assert np.mean(np.abs(drawn - expected)[plain] > 40) < 0.003  # corners may be a little sharper


def colour_mask(picture: np.ndarray, colour: str) -> np.ndarray:
    """Pixels that are nearer to this colour than to any other, and near to it."""
    distances = np.stack([np.linalg.norm(picture - np.array(rgb, float), axis=-1) for rgb in COLOURS.values()])
    chosen = list(COLOURS).index(colour)
    return (distances.argmin(axis=0) == chosen) & (distances[chosen] < 40)


def is_told(caption: str, relation: str, first: np.ndarray, second: np.ndarray) -> bool:
    """Whether centroids (y, x) stand as the caption says, and more that way than any other."""
    down, right = second - first
    return {
        "above": down > abs(right),
        "below": -down > abs(right),
        "left of": right > abs(down),
        "right of": -right > abs(down),
    }[relation]


def test_captions_say_what_the_pixels_show() -> None:
    relations = set()
    for index in range(300):
        scene = shapes.sample_scene(0, shapes.TRAIN, index)
        picture = shapes.draw_scene(0, shapes.TRAIN, index).astype(float)
        parts = CAPTION.fullmatch(scene.caption)
        assert parts is not None, scene.caption
        told = [parts.groups()[:3], parts.groups()[4:]][: 2 if parts[4] else 1]
        assert len(told) == len(scene.things)
        centroids = []
        for (size, colour, shape), thing in zip(told, scene.things, strict=True):
            assert (colour, shape, size or thing.size) == (thing.colour, thing.shape, thing.size)
            mask = colour_mask(picture, colour)
            if len({one.colour for one in scene.things}) == len(scene.things):
                assert mask.sum() > 15, scene
                centroid = np.argwhere(mask).mean(axis=0) + 0.5
                assert np.abs(centroid - (thing.y, thing.x)).max() < 2, scene
                middle = picture[int(thing.y), int(thing.x)]
                if shape != "ring":
                    assert np.abs(middle - COLOURS[colour]).max() <= 18
                assert (mask.sum() / AREA[shape] > 9.4**2) == (thing.size == "large"), scene
                centroids.append(centroid)
        if len(centroids) == 2:
            relations.add(scene.relation)
            assert is_told(scene.caption, scene.relation, *centroids), scene
    assert relations == set(shapes.RELATIONS)


def test_articles_are_right() -> None:
    for index in range(500):
        words = shapes.sample_scene(0, shapes.TRAIN, index).caption.split()
        for article, noun in itertools.pairwise(words):
            if article in ("a", "an"):
                assert (article == "an") == (noun == "orange"), words


def test_held_out_combinations_are_in_no_image_and_no_caption_to_learn_from() -> None:
    held_out = set(shapes.HELD_OUT)
    seen = set()
    for part, count in ((shapes.TRAIN, 8000), (shapes.VAL, 500)):
        for index in range(count):
            scene = shapes.sample_scene(0, part, index)
            combinations = {(thing.colour, thing.shape) for thing in scene.things}
            named = {groups[1:] for groups in re.findall(THING, scene.caption)}
            assert named == combinations
            assert not held_out & combinations
            seen |= combinations
    assert seen == set(shapes.SEEN)
    assert len(held_out) == 10
    assert len(seen | held_out) == len(COLOURS) * len(SHAPES) == 48
    for place, words in ((0, COLOURS), (1, SHAPES)):  # each word is known from at least half of its combinations
        for word in words:
            assert 2 * sum(pair[place] == word for pair in seen) >= len(shapes.ALL) // len(words)


def test_labelled_things_have_one_word_each_and_no_held_out_combination() -> None:
    splits = open_dataset("shapes")
    assert splits.classes == (*COLOURS, *SHAPES)
    assert (len(splits.train), len(splits.val)) == (16000, 1000)
    assert not set(splits.train.names) & set(splits.val.names)
    kinds: Counter[str] = Counter()
    for index in range(17000):
        part, place = (splits.train, index) if index < 16000 else (splits.val, index - 16000)
        word = splits.classes[part.labels[place]]
        (thing,) = shapes.sample_scene(0, shapes.LABELLED, index).things
        kind = kind_of(thing)
        assert word in (thing.colour, thing.shape)
        assert kind != "seen" or (thing.colour, thing.shape) in shapes.SEEN
        kinds[f"{kind}, by its {'colour' if word == thing.colour else 'shape'}"] += 1
        if index % 300 == 0 and kind != "fading":
            picture = part.image(place).astype(float)
            near = np.linalg.norm(picture - np.array(thing.rgb), axis=-1) < 12
            assert np.abs(np.argwhere(near).mean(axis=0) + 0.5 - (thing.y, thing.x)).max() < 3
    shares = {kind: count / 17000 for kind, count in kinds.items()}
    assert shares == pytest.approx(
        {
            "other shape, by its colour": 0.1,
            "seen, by its colour": 0.15,
            "seen, by its shape": 0.1,
            "other colour, by its shape": 0.3,
            "fading, by its shape": 0.35,
        },
        abs=0.02,
    )


def kind_of(thing: Thing) -> str:
    """What a labelled thing is like, by its pixels' colours and its shape."""
    if thing.fades_to is not None:
        assert np.linalg.norm(np.subtract(thing.rgb, thing.fades_to)) > 100  # no two shades of one colour
        assert thing.shape in SHAPES
        return "fading"
    assert np.abs(np.subtract(thing.rgb, (COLOURS | OTHER_COLOURS)[thing.colour])).max() <= 12
    if thing.colour in OTHER_COLOURS:
        assert thing.shape in SHAPES
        return "other colour"
    return "seen" if thing.shape in SHAPES else "other shape"


def test_a_thing_may_fade_from_left_to_right() -> None:
    plain = Thing("", (200.0, 20.0, 20.0), "square", "large", 32.0, 32.0, 14.0, 0.0)
    none = np.zeros((SIZE, SIZE, 3))
    drawn = draw_things([plain._replace(fades_to=(20.0, 20.0, 220.0))], np.full(3, 150.0), none).astype(float)
    columns = np.arange(24, 41)
    share = 0.5 + (columns + 0.5 - 32) / (1.2 * 14)
    expected = 200 + share * (20 - 200)
    np.testing.assert_allclose(drawn[32, columns, 0], np.rint(np.clip(expected, 20, 200)))
    np.testing.assert_allclose(drawn[32, columns, 2], np.rint(20 + np.clip(share, 0, 1) * 200))
    np.testing.assert_array_equal(drawn[28:36, columns], np.broadcast_to(drawn[32, columns], (8, 17, 3)))
    np.testing.assert_array_equal(draw_things([plain], np.full(3, 150.0), none)[32, 32], [200, 20, 20])


def test_colours_without_a_name_in_captions_are_no_shades_of_those_with_one() -> None:
    shade = 12 * 3**0.5
    for other in OTHER_COLOURS.values():
        assert min(np.linalg.norm(np.subtract(other, rgb)) for rgb in COLOURS.values()) > 2 * shade
    assert not set(OTHER_COLOURS) & set(COLOURS)
    assert not set(OTHER_SHAPES) & set(SHAPES)


def test_unseen_images_show_held_out_combinations_among_all_names() -> None:
    unseen = shapes.unseen_shapes(each=3)
    assert len(unseen) == 30
    assert unseen.classes == tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
    named = [tuple(unseen.classes[label].split()) for label in unseen.labels.tolist()]
    assert sorted(named) == sorted(3 * shapes.HELD_OUT)
    for index, (colour, _) in enumerate(named):
        assert colour_mask(unseen.image(index).astype(float), colour).sum() > 15


def test_a_scene_is_a_function_of_seed_and_number_in_any_thread() -> None:
    samples = shapes.captioned_shapes("train", count=40)
    again = shapes.captioned_shapes("train", count=60)
    assert samples.names == again.names[:40]
    assert [samples.classes[label] for label in samples.labels] == [again.classes[at] for at in again.labels[:40]]
    order = list(range(39, -1, -1))
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(again.image, order))
    for index, picture in zip(order, drawn, strict=True):
        np.testing.assert_array_equal(picture, samples.image(index))
    other = shapes.captioned_shapes("train", seed=1, count=40)
    assert other.fingerprint() != samples.fingerprint()
    assert not np.array_equal(other.image(0), samples.image(0))
    val = shapes.captioned_shapes("val", count=40)
    assert not any(np.array_equal(val.image(index), samples.image(index)) for index in range(40))
