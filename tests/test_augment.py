"""Training crops: the distribution of TensorFlow's sample_distorted_bounding_box, as the original uses it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from pydantic import ValidationError

from vitsmith.data.augment import AugmentSpec, augment, sample_box

HEIGHT, WIDTH, DRAWS = 300, 400, 4000


def tensorflow_heights(count: int) -> np.ndarray:
    """Crop heights by rejection, from the documented rule: even aspect, then even height among those that fit.

    Written from the kernel's description (sample_distorted_bounding_box_op.cc): the height is even between the
    smallest and the largest for which the area is permitted and the box lies inside.
    """
    random = np.random.default_rng(1)
    heights = []
    while len(heights) < count:
        aspect = random.uniform(0.75, 1.33)
        low, high = np.sqrt(0.05 * HEIGHT * WIDTH / aspect), np.sqrt(HEIGHT * WIDTH / aspect)
        height = random.uniform(low, min(high, HEIGHT, WIDTH / aspect))
        heights.append(height)
    return np.array(heights)


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
    assert scipy.stats.ks_2samp(height, tensorflow_heights(DRAWS)).pvalue > 1e-3
    positions = (left / np.maximum(WIDTH - width, 1))[width < WIDTH - 50]
    assert scipy.stats.kstest(positions, "uniform").pvalue > 1e-3


def test_half_of_the_images_are_mirrored() -> None:
    random = np.random.default_rng(0)
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    whole = AugmentSpec(area=(1, 1), aspect=(1, 1))
    mirrored = sum(np.array_equal(augment(image, whole, random), image[:, ::-1]) for _ in range(400))
    assert scipy.stats.binomtest(mirrored, 400).pvalue > 1e-3
    assert np.array_equal(augment(image, AugmentSpec(area=(1, 1), aspect=(1, 1), flip=False), random), image)


def test_impossible_boxes_give_the_whole_image() -> None:
    box = sample_box(10, 1000, AugmentSpec(area=(0.9, 1.0)), np.random.default_rng(0))
    assert box == (0, 0, 10, 1000)


def test_ranges_run_from_low_to_high() -> None:
    with pytest.raises(ValidationError, match="area must go from low to high"):
        AugmentSpec(area=(0.9, 0.1))
