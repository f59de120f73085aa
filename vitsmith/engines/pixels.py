"""Converts normalised tensors back to pixels, for programs that normalise by themselves."""

from __future__ import annotations

import numpy as np

from vitsmith.arrays import Array
from vitsmith.specs import ImageSpec


def pixels_from_tensors(tensors: Array, spec: ImageSpec) -> Array:
    """float32 (n, 3, h, w) made from uint8 pixels by `normalize` -> those pixels, uint8 (n, h, w, 3)."""
    scale = np.asarray(spec.std, np.float32)[:, None, None] * 255
    shift = np.asarray(spec.mean, np.float32)[:, None, None] * 255
    pixels = np.rint(tensors * scale + shift).clip(0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))
