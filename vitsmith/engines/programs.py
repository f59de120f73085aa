"""What the engines of exported programs have in common about their bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.engines.pixels import pixels_from_tensors
from vitsmith.errors import InputError
from vitsmith.models.cost import flops
from vitsmith.weights.bundle import Bundle

Array = np.ndarray[Any, Any]

PRECISION_WORDS = {
    "fp32": "float32",
    "fp16": "float16",
    "bf16": "bfloat16",
    "int8": "int8",
    "int8, rest bf16": "int8, rest bfloat16",
}
"""What an engine calls a program's arithmetic."""

SMALL_FLOPS = 10**8
"""Floating-point operations of an image below which nothing is compared: a core does a thousand such images a second,
and what there is to gain is less than reading an image takes."""


def require_folder(bundle: Bundle) -> Path:
    """Where the programs are. Raises InputError."""
    if bundle.folder is None:
        raise InputError(f"{bundle.where}: an exported bundle lives in a folder; load it from there")
    return bundle.folder


def require_pixels(bundle: Bundle) -> None:
    """Raises InputError when the program takes normalised images."""
    if not bundle.program_spec.pixels:
        raise InputError(f"{bundle.where} takes normalised images, not pixels: export the model with --pixels")


def is_small(bundle: Bundle) -> bool:
    """Whether measuring is not worth its time."""
    return flops(bundle.config) < SMALL_FLOPS


def sample_tensors(bundle: Bundle, batch: int) -> Array:
    """float32 (batch, 3, height, width): the golden images, repeated, or noise for a bundle without."""
    if bundle.golden is not None:
        return np.resize(bundle.golden.tensors, (batch, *bundle.golden.tensors.shape[1:]))
    return np.random.default_rng(0).uniform(-1, 1, (batch, 3, *bundle.images.size)).astype(np.float32)


def sample_inputs(bundle: Bundle, batch: int) -> Array:
    """Inputs as the image program takes them: tensors or pixels."""
    tensors = sample_tensors(bundle, batch)
    return pixels_from_tensors(tensors, bundle.images) if bundle.program_spec.pixels else tensors
