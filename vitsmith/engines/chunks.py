"""Batches of any size through programs that take a fixed number of images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitsmith.arrays import Array
from vitsmith.errors import BundleError


def run_in_chunks(run: Callable[[Array], Array], inputs: Array, size: int) -> Array:
    """The outputs of `run` for inputs (batch, ...), given to it `size` at a time; repeats fill up the last."""
    if not len(inputs):
        return run(np.zeros((size, *inputs.shape[1:]), inputs.dtype))[:0]
    outputs = [run(padded(inputs[at : at + size], size)) for at in range(0, len(inputs), size)]
    return np.concatenate(outputs)[: len(inputs)]


def padded(inputs: Array, size: int) -> Array:
    """`size` inputs, in C order: those given, then repeats of the first."""
    if len(inputs) == size:
        return np.ascontiguousarray(inputs)
    made_up = np.empty((size, *inputs.shape[1:]), inputs.dtype)  # np.concatenate may choose another order
    made_up[: len(inputs)], made_up[len(inputs) :] = inputs, inputs[:1]
    return made_up


def check_batch(path: Path, found: int | None, expected: int | None) -> None:
    """Raises BundleError for a graph with another fixed batch than its bundle says; None means any batch."""
    if found is None or found == expected:
        return
    if expected is None:
        target = {".xml": "openvino", ".pte": "executorch"}.get(path.suffix, "onnx")
        raise BundleError(
            f"{path} was exported for a batch of exactly {found}; "
            f"export it again with  vitsmith export --to {target}  for any batch"
        )
    raise BundleError(f"{path} takes batches of {found}, its bundle says {expected}; export it again")
