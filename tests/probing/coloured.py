"""A small data set of noisy pictures, each class in a colour of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

COLOURS = {"cat": (200, 60, 60), "dog": (60, 200, 60), "red": (60, 60, 200)}
"""Classes whose names the vocabulary of `tiny_lit` has."""


def pets(folder: Path, each: int = 12) -> str:
    """Noisy pictures of a colour for each class."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for at in range(each):
            noise = random.normal(0, 60, (20, 30, 3)) + random.normal(0, 60, 3)
            pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{at}.png")
    return str(folder)
