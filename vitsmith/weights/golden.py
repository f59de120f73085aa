"""Golden examples: images with their input tensors and outputs, kept with a model to prove it still answers alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.data.preprocess import preprocess
from vitsmith.errors import BundleError
from vitsmith.specs import ImageSpec

Array = np.ndarray[Any, Any]

TENSOR_TOLERANCE = 1e-4
"""Input values may move by this much: another NumPy or Pillow rounds differently in the last bits."""
OUTPUT_TOLERANCE = 2e-3
"""Outputs may move by this share of the largest: another processor adds in another order."""


@dataclass(frozen=True)
class Golden:
    """Examples of one model."""

    images: tuple[Array, ...]
    """uint8 RGB, each (height, width, 3)."""
    tensors: Array
    """float32 (examples, 3, height, width), the images after preprocessing."""
    outputs: Array
    """float32 (examples, ...): logits, or features of a model without head."""

    def check_inputs(self, spec: ImageSpec, where: str) -> None:
        """Raises BundleError when preprocessing gives other tensors than when the bundle was made."""
        for index, image in enumerate(self.images):
            error = float(np.abs(preprocess(image, spec) - self.tensors[index]).max())
            if not error <= TENSOR_TOLERANCE * float(np.abs(self.tensors[index]).max()):
                raise BundleError(
                    f"{where}: golden image {index} is preprocessed differently here (by up to {error:.3g}): the image "
                    "specification or an imaging library changed; make the bundle again"
                )

    def check_outputs(self, outputs: Array, where: str) -> None:
        """Raises BundleError unless `outputs` are what the model gave for the golden tensors when it was saved."""
        largest = float(np.abs(self.outputs).max())
        error = float(np.abs(outputs - self.outputs).max()) / max(largest, 1e-12)
        if not error <= OUTPUT_TOLERANCE:  # also refuses NaN
            raise BundleError(
                f"{where}: the golden images give other answers here than when the bundle was made "
                f"(relative difference {error:.2g}, allowed {OUTPUT_TOLERANCE:g}); do not use it on this machine"
            )


def make_golden(images: Sequence[Array], spec: ImageSpec, run: Callable[[Array], Array]) -> Golden:
    """Golden examples from uint8 images and what runs the model: (n, 3, h, w) -> outputs."""
    tensors = np.stack([preprocess(image, spec) for image in images])
    return Golden(tuple(images), tensors, run(tensors).astype(np.float32))


def write_golden(golden: Golden, path: Path) -> None:
    """Writes a safetensors file."""
    from safetensors.numpy import save_file

    arrays = {f"image.{index}": np.ascontiguousarray(image) for index, image in enumerate(golden.images)}
    save_file({**arrays, "tensors": golden.tensors, "outputs": np.ascontiguousarray(golden.outputs)}, path)


def read_golden(path: Path) -> Golden:
    """Reads what `write_golden` wrote. Raises BundleError for anything else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        arrays = load_file(path)
        images = tuple(arrays[f"image.{index}"] for index in range(len(arrays) - 2))
        return Golden(images, arrays["tensors"], arrays["outputs"])
    except (SafetensorError, KeyError, OSError) as error:
        raise BundleError(f"{path} is damaged ({error}); make the bundle again") from None
