"""Training crops: the distribution of TensorFlow's sample_distorted_bounding_box, as the original uses it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from vitsmith.data.augment.settings import AugmentSpec, sample_box
from vitsmith.errors import ConfigError

HEIGHT, WIDTH, DRAWS = 300, 400, 4000


def tensorflow_boxes(count: int, seed: int = 1) -> np.ndarray:
    """(top, left, height, width) by the documented rule, in real numbers: even aspect, then even height among those
    that fit, then even position. Shape (4, count).

    Written from the kernel's description (sample_distorted_bounding_box_op.cc): the height is even between the
    smallest and the largest for which the area is permitted and the box lies inside.
    """
    random = np.random.default_rng(seed)
    aspect = random.uniform(0.75, 1.33, count)
    low, high = np.sqrt(0.05 * HEIGHT * WIDTH / aspect), np.sqrt(HEIGHT * WIDTH / aspect)
    height = random.uniform(low, np.minimum(high, np.minimum(HEIGHT, WIDTH / aspect)))
    width = height * aspect
    return np.stack([random.uniform(0, HEIGHT - height), random.uniform(0, WIDTH - width), height, width])


def test_crops_follow_the_originals_distribution() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([sample_box(HEIGHT, WIDTH, AugmentSpec(), random) for _ in range(DRAWS)])
    top, left, height, width = boxes.T
    assert (top >= 0).all() and (left >= 0).all()
    assert (top + height <= HEIGHT).all() and (left + width <= WIDTH).all()
    share = height * width / (HEIGHT * WIDTH)
    assert share.min() >= 0.05 and share.max() <= 1
    aspect = width / height
    assert aspect.min() >= 0.74 and aspect.max() <= 1.35
    assert scipy.stats.kstest(aspect, scipy.stats.uniform(0.75, 0.58).cdf).pvalue > 1e-3
    assert scipy.stats.ks_2samp(height, tensorflow_boxes(DRAWS)[2]).pvalue > 1e-3
    positions = (left / np.maximum(WIDTH - width, 1))[width < WIDTH - 50]
    assert scipy.stats.kstest(positions, "uniform").pvalue > 1e-3


def test_every_measure_of_a_crop_has_the_references_distribution() -> None:
    random = np.random.default_rng(2)
    boxes = np.array([sample_box(HEIGHT, WIDTH, AugmentSpec(), random) for _ in range(DRAWS)], np.float64).T
    reference = tensorflow_boxes(DRAWS, seed=7)
    measures = {
        "top": lambda top, left, height, width: top,
        "left": lambda top, left, height, width: left,
        "width": lambda top, left, height, width: width,
        "area": lambda top, left, height, width: height * width,
        "centre": lambda top, left, height, width: (top + height / 2) * (left + width / 2),
    }
    for name, measure in measures.items():
        assert scipy.stats.ks_2samp(measure(*boxes), measure(*reference)).pvalue > 1e-3, name


def test_area_and_aspect_stay_in_their_ranges_at_every_size() -> None:
    random = np.random.default_rng(3)
    for height, width in ((375, 500), (500, 375), (3024, 4032), (64, 64)):
        for spec in (AugmentSpec(), AugmentSpec(area=(0.3, 0.6), aspect=(0.9, 1.1))):
            boxes = np.array([sample_box(height, width, spec, random) for _ in range(300)])
            share = boxes[:, 2] * boxes[:, 3] / (height * width)
            assert share.min() >= spec.area[0] and share.max() <= spec.area[1]
            aspect, half_a_pixel = boxes[:, 3] / boxes[:, 2], 0.5 / boxes[:, 2]
            # A row more or less, to keep within the areas, moves the width by as much as the aspect.
            assert (aspect >= spec.aspect[0] - 3 * half_a_pixel).all()
            assert (aspect <= spec.aspect[1] + 3 * half_a_pixel).all()


def test_impossible_boxes_give_the_whole_image() -> None:
    box = sample_box(10, 1000, AugmentSpec(area=(0.9, 1.0)), np.random.default_rng(0))
    assert box == (0, 0, 10, 1000)


def test_ranges_run_from_low_to_high() -> None:
    with pytest.raises(ConfigError, match="area must go from low to high"):
        AugmentSpec(area=(0.9, 0.1))
