"""Turn pixels into a model's input, as its ImageSpec says. Every image for a model goes through here, in training too.

There are three resizers, because published weights were made with each: two-tap bilinear as tf.image.resize (the
original code), Pillow's antialiased filters in uint8 (timm, CLIP, HF), and the same filters in float32 (HF's DINOv3).
Letters: H, W source size; h, w the model's input.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitsmith.arguments import named_arguments
from vitsmith.data.images.float_filter import filter_pixels
from vitsmith.data.images.placement import Span, covered, spans
from vitsmith.data.images.read import MAX_PIXELS, read_image
from vitsmith.data.images.sources import ImageSource
from vitsmith.errors import ImageError, shown
from vitsmith.specs import ImageSpec

_Pixels = TypeVar("_Pixels", NDArray[np.uint8], NDArray[np.float32])

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# The most pixels that Pillow may hold between its steps (64 MiB), unless the source or the result is larger. Pillow
# resizes the whole image before the centre is cut out, and the width before the height: a line of 1 x 1000000 pixels
# would become 256 x 256000000.
_MAX_ON_THE_WAY = 2**24


@named_arguments
def load_image(source: ImageSource, spec: ImageSpec, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Read and preprocess one image: float32 of shape (3, h, w). Errors as `read_image` and `preprocess`."""
    needed = None
    if spec.scaled_decoding:
        needed = covered(spec)
    return preprocess(read_image(source, needed=needed, max_pixels=max_pixels), spec)


def preprocess(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """RGB pixels, uint8 of shape (H, W, 3), to the model's input, float32 of shape (3, h, w).

    Raises ImageError for any other kind of array.
    """
    return normalize(resize_image(image, spec), spec)


def resize_image(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The image at the model's size, (h, w, 3): float32 in 0..255 with `quantize='none'`, else uint8.

    Raises ImageError when `image` is not uint8 of shape (H, W, 3), or is so long and narrow (over about 100 to 1) that
    resizing it with Pillow would take far more memory than the image itself.
    """
    if not isinstance(image, np.ndarray):
        raise ImageError(f"cannot preprocess {shown(image)}: give uint8 RGB, which read_image makes of any image")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(
            f"cannot preprocess {image.dtype} of shape {image.shape}: give uint8 RGB of shape (height, width, 3), "
            "which read_image makes of any image"
        )
    if not spec.antialias:
        return _resize_two_taps(image, spec)
    down, across = spans((image.shape[0], image.shape[1]), spec)
    if spec.quantize == "none":
        return _filled(filter_pixels(image, down, across, spec.interpolation), down, across, spec)
    return _filled(_resize_with_pillow(image, down, across, spec), down, across, spec)


def normalize(pixels: NDArray[np.uint8] | NDArray[np.float32], spec: ImageSpec) -> NDArray[np.float32]:
    """`(pixel / 255 - mean) / std` of (h, w, 3) pixels in 0..255, as float32 of shape (3, h, w)."""
    height, width, channels = pixels.shape
    output = np.empty((channels, height, width), np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        np.multiply(pixels[:, :, channel], np.float32(1 / (255 * std)), out=output[channel])
        output[channel] -= np.float32(mean / std)
    return output


def _resize_two_taps(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8] | NDArray[np.float32]:
    """Resize as tf.image.resize(method='bilinear'), and for 'shorter' cut out the centre as vit_jax/preprocess.py.

    Only the taps of the pixels that remain are read, so the cost hardly depends on the size of the source.
    """
    height, width, _ = image.shape
    resized, (y, x) = spec.size, (0, 0)
    if spec.resize == "shorter":
        resized = _covering_size((height, width), covered(spec))
        y, x = (resized[0] - spec.size[0]) // 2, (resized[1] - spec.size[1]) // 2  # floored, as in `_crop`
    top, bottom, down = _taps(height, resized[0], y, spec.size[0])
    left, right, across = _taps(width, resized[1], x, spec.size[1])
    rows, columns = np.concatenate([top, bottom]), np.concatenate([left, right])
    # One flat `take` is four times as fast here as image[rows[:, None], columns].
    corners = image.reshape(-1, 3).take(rows[:, None] * width + columns, axis=0).astype(np.float32)
    rows_lerped = _lerp(corners[:, : len(left)], corners[:, len(left) :], across[:, None])
    pixels = _lerp(rows_lerped[: len(top)], rows_lerped[len(top) :], down[:, None, None])
    if spec.quantize == "none":
        return pixels
    return (np.rint(pixels) if spec.quantize == "round" else pixels).astype(np.uint8)


def _covering_size(source: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """`_resize_small` of vit_jax/preprocess.py: the ratio in float32, halves rounded to even as by tf.round."""
    sides = np.asarray(source, np.float32)
    ratio = np.max(np.asarray(wanted, np.float32) / sides)
    height, width = np.rint(sides * ratio)
    return int(height), int(width)


def _taps(
    length: int, resized: int, start: int, count: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Lower tap, upper tap and weight of the upper one, for `count` of the `resized` positions from `start` on.

    Half-pixel centres in float32, step for step as compute_interpolation_weights in TensorFlow's
    resize_bilinear_op.cc, because truncation to uint8 makes the last bit visible.
    """
    scale = np.float32(length) / np.float32(resized)
    centre = (np.arange(start, start + count, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    floor = np.floor(centre)
    lower = np.maximum(floor, 0).astype(np.intp)
    upper = np.minimum(np.ceil(centre), length - 1).astype(np.intp)
    return lower, upper, centre - floor


def _lerp(low: NDArray[np.float32], high: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return low + (high - low) * weight


def _resize_with_pillow(image: NDArray[np.uint8], down: Span, across: Span, spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize the whole image, then cut out what is used, as timm and torchvision."""
    source, resized = image.shape[:2], (down.resized, across.resized)
    if max(source[0], resized[0]) * resized[1] > max(_MAX_ON_THE_WAY, math.prod(source), 4 * math.prod(spec.size)):
        raise ImageError(
            f"image of {source[0]} x {source[1]} pixels (height x width) is too long and narrow to be resized "
            f"to {resized[0]} x {resized[1]}; cut it into pieces first"
        )
    # Resizing only the crop with Pillow's box= would be cheaper but not the same: the box is rounded to float32, which
    # changes 0.01% to 0.3% of the values by one.
    filtered = Image.fromarray(image).resize(resized[::-1], _FILTERS[spec.interpolation])
    return np.array(filtered)[down.used, across.used]


def _filled(part: _Pixels, down: Span, across: Span, spec: ImageSpec) -> _Pixels:
    """The image at the model's size, with `fill` around it where it is smaller."""
    if part.shape[:2] == spec.size:
        return part
    filled = np.empty((*spec.size, 3), part.dtype)
    filled[:] = spec.fill
    filled[down.placed, across.placed] = part
    return filled
