"""Images as tensors of torch, JAX and others. Tensors are recognised by their methods: none of these libraries is
imported.

A tensor is an image when it has three axes and either the first (as in torch) or the last (as in NumPy), but not both,
has length 1, 3 or 4, the channels; or when it has two axes, a grey image. Values are uint8 from 0 to 255, or floating
point from 0 to 1. Anything else is refused.
"""

from __future__ import annotations

from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from vitsmith.errors import ImageError

CHANNELS = (1, 3, 4)
_WANTED = "give uint8 from 0 to 255, or floating point from 0 to 1, of shape (3, height, width) or (height, width, 3)"


def is_tensor(source: object) -> TypeGuard[Any]:
    """Whether something is a tensor of another library than NumPy."""
    wanted = ("__array__", "shape", "dtype", "device")
    return not isinstance(source, np.ndarray | np.generic) and all(hasattr(source, name) for name in wanted)


def array_from_tensor(tensor: Any) -> NDArray[np.uint8]:
    """uint8 (height, width, 1, 3 or 4), or (height, width) when grey. Raises ImageError for what could be misread."""
    array = _on_cpu(tensor)
    told = f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(array.shape)}"
    if array.ndim not in (2, 3) or not array.size:
        raise ImageError(f"{told} is not an image: {_WANTED}")
    if array.ndim == 3:
        first, last = array.shape[0] in CHANNELS, array.shape[2] in CHANNELS
        if not first and not last:
            raise ImageError(f"{told} is not an image: {_WANTED}")
        if first and last:
            raise ImageError(
                f"{told} may have its channels first or last: give tensor.permute(...).numpy() with them last"
            )
        array = array.transpose(1, 2, 0) if first else array
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise ImageError(f"{told} is not an image: {_WANTED}")
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # so that NaN is refused too
        raise ImageError(
            f"{told} has values from {low:.3g} to {high:.3g}: floating point is read as 0 to 1; give pixels before "
            "they are normalised, or uint8"
        )
    return np.rint(array.astype(np.float32) * 255).astype(np.uint8)


def _on_cpu(tensor: Any) -> NDArray[Any]:
    """The values as a NumPy array; bfloat16, which NumPy does not have, becomes float32."""
    for step in ("detach", "cpu"):
        tensor = getattr(tensor, step)() if hasattr(tensor, step) else tensor
    if "bfloat16" in str(tensor.dtype):
        tensor = tensor.float() if hasattr(tensor, "float") else tensor.astype(np.float32)
    return np.asarray(tensor)
