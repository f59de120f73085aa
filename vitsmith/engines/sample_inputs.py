"""Inputs to try a bundle with: its golden images, else sample photographs or noise."""

from __future__ import annotations

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.engines.pixels import pixels_from_tensors
from vitsmith.weights.bundle.bundle import Bundle

GATE_INPUTS = 14
"""Number of images that answers are compared on if none are given."""


def sample_tensors(bundle: Bundle, batch: int) -> Array:
    """float32 (batch, 3, height, width): the golden images, repeated, or noise if there are none."""
    if bundle.golden is not None:
        return np.resize(bundle.golden.tensors, (batch, *bundle.golden.tensors.shape[1:]))
    return np.random.default_rng(0).uniform(-1, 1, (batch, 3, *bundle.preprocessing.size)).astype(np.float32)


def gate_images(bundle: Bundle) -> list[Array]:
    """uint8 RGB images to compare answers on: the golden ones, filled up to GATE_INPUTS with sample photographs."""
    golden = list(bundle.golden.images) if bundle.golden else []
    return golden + sample_images(max(GATE_INPUTS - len(golden), 0))


def sample_inputs(bundle: Bundle, batch: int) -> Array:
    """Inputs as the image program takes them: tensors or pixels."""
    tensors = sample_tensors(bundle, batch)
    return pixels_from_tensors(tensors, bundle.preprocessing) if bundle.program_spec.pixels else tensors
