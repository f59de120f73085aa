"""Images to check a model with when the user gives none."""

from __future__ import annotations

import numpy as np

from vitsmith.arrays import Array


def sample_images(count: int, *, side: int = 256) -> list[Array]:
    """The same `count` uint8 RGB images, (side, side, 3), in every call; they all differ.

    They are crops of the two photographs that come with scikit-learn where it is installed, and drawn scenes otherwise.
    """
    generator = np.random.default_rng(0)
    photos = _photographs()
    if not photos:
        return [_drawn(generator, side) for _ in range(count)]
    return [_crop(photos[index % len(photos)], generator, side) for index in range(count)]


def _photographs() -> list[Array]:
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        return []
    return [np.asarray(image) for image in load_sample_images().images]


def _crop(photo: Array, generator: np.random.Generator, side: int) -> Array:
    height, width, _ = photo.shape
    top, left = generator.integers(0, height - side + 1), generator.integers(0, width - side + 1)
    crop = photo[top : top + side, left : left + side]
    return np.ascontiguousarray(crop[:, ::-1] if generator.random() < 0.5 else crop)


def _drawn(generator: np.random.Generator, side: int) -> Array:
    """A colour gradient with a few discs on it and some grain."""
    rows, columns = np.mgrid[0:side, 0:side] / side
    corners = generator.uniform(0, 255, (3, 3))
    image = (
        corners[0] + rows[..., None] * (corners[1] - corners[0]) + columns[..., None] * (corners[2] - corners[0]) / 2
    )
    for _ in range(6):
        y, x, radius = generator.uniform(0, 1, 3) * (1, 1, 0.3)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = generator.uniform(0, 255, 3)
    image += generator.normal(0, 8, image.shape)
    return image.clip(0, 255).astype(np.uint8)
