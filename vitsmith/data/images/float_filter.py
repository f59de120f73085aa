"""Antialiased resampling in float32, as torch computes it, for where there is no torch.

Source: `F.interpolate(antialias=True)`, which torchvision's resize of float tensors is (ATen/native/cpu/
UpSampleKernel.cpp, `_compute_indices_min_size_weights_aa`). The kernels are Pillow's, but positions are rounded to
float32, which moves values by up to 3e-5 of their range: hence not Pillow's mode F.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.images.placement import Span

_Float = NDArray[np.float32]

_ROWS = 16
"""Rows that one product of matrices makes: more multiply more zeros, fewer call more often."""


class _Taps(NamedTuple):
    """For each used position the first source pixel, (n,), and the weights of it and those after it, (n, taps)."""

    first: NDArray[np.int64]
    weights: _Float


def filter_pixels(image: NDArray[np.uint8], down: Span, across: Span, interpolation: str) -> _Float:
    """The used part of (H, W, 3) pixels after resizing, float32 in about 0..255: bicubic may overshoot.

    Only what the used part needs is read. The axis that shrinks more goes first, so that little is held on the way.
    """
    rows, columns = _taps(down, interpolation), _taps(across, interpolation)
    if down.length * across.pixels >= across.length * down.pixels:
        return _across(_down(image, rows), columns)
    return _down(_across(image, columns), rows)


def _down(pixels: NDArray[np.uint8] | _Float, taps: _Taps) -> _Float:
    """(H, W, 3) -> (h, W, 3)."""
    length, width, _ = pixels.shape
    flat = np.ascontiguousarray(pixels).reshape(length, -1)
    count, reach = taps.weights.shape
    output = np.empty((count, flat.shape[1]), np.float32)
    for at in range(0, count, _ROWS):
        first, weights = taps.first[at : at + _ROWS], taps.weights[at : at + _ROWS]
        low, high = first[0], first[-1] + reach
        matrix = np.zeros((len(first), high - low), np.float32)
        np.put_along_axis(matrix, (first - low)[:, None] + np.arange(reach), weights, axis=1)
        source = flat[low:high].astype(np.float32, copy=False)
        np.matmul(matrix[:, : len(source)], source, out=output[at : at + _ROWS])
    return output.reshape(count, width, 3)


def _across(pixels: NDArray[np.uint8] | _Float, taps: _Taps) -> _Float:
    """(H, W, 3) -> (H, w, 3)."""
    return np.ascontiguousarray(_down(pixels.transpose(1, 0, 2), taps).transpose(1, 0, 2))


def _taps(span: Span, interpolation: str) -> _Taps:
    """The weights of each used position. What is float32 and what is float64 follows the source, step for step."""
    kernel, half = _KERNELS[interpolation]
    scale = np.float32(span.length) / np.float32(span.resized)
    support = np.float32(half) * max(scale, np.float32(1))
    inverse = np.float32(1 / np.float64(scale)) if scale >= 1 else np.float32(1)
    centres = (np.float64(scale) * (np.arange(span.start, span.start + span.pixels) + 0.5)).astype(np.float32)
    first = np.maximum(((centres - support).astype(np.float64) + 0.5).astype(np.int64), 0)
    end = np.minimum(((centres + support).astype(np.float64) + 0.5).astype(np.int64), span.length)
    at = first[:, None] + np.arange((end - first).max())
    distances = (at.astype(np.float32) - centres[:, None]).astype(np.float64) + 0.5
    weights = kernel(np.abs((distances * np.float64(inverse)).astype(np.float32)))
    weights[at >= end[:, None]] = 0
    return _Taps(first, weights / weights.sum(axis=1, keepdims=True, dtype=np.float32))


def _bilinear(x: _Float) -> _Float:
    return np.maximum(np.float32(1) - x, np.float32(0))


def _bicubic(x: _Float) -> _Float:
    """Keys' cubic with a = -0.5, as Pillow's and not as OpenCV's."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0)).astype(np.float32)


_KERNELS: dict[str, tuple[Callable[[_Float], _Float], float]] = {"bilinear": (_bilinear, 1), "bicubic": (_bicubic, 2)}
"""Each kernel for distances, and how far it reaches."""
