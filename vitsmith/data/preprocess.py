"""Pixels to a model's input, as its ImageSpec says. Every path to a model goes through here, training's last step too.

Two resizers, because published weights were made with both: two-tap bilinear as tf.image.resize (the original code),
and Pillow's antialiased filters (timm, torchvision, HF). Letters: H, W source size; h, w the model's input.
"""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitsmith.data.images import MAX_PIXELS, ImageSource, read_image
from vitsmith.errors import ImageError
from vitsmith.specs import ImageSpec

_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}

# Pillow resizes all of an image before the centre is cut out: 1x1000000 pixels would become 256x256000000 first.
_MAX_ELONGATION = 100


def load_image(source: ImageSource, spec: ImageSpec, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.float32]:
    """Read and preprocess one image: float32 of shape (3, h, w). Errors as `read_image` and `preprocess`."""
    needed = None
    if spec.scaled_decoding:
        needed = spec.size if spec.resize == "squash" else _shorter_target(spec)
    return preprocess(read_image(source, needed=needed, max_pixels=max_pixels), spec)


def preprocess(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.float32]:
    """RGB pixels, uint8 of shape (H, W, 3), to the model's input, float32 of shape (3, h, w).

    Raises ImageError for any other kind of array.
    """
    return normalize(resize_image(image, spec), spec)


def resize_image(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8] | NDArray[np.float32]:
    """The image at the model's size, (h, w, 3): float32 in 0..255 with `quantize='none'`, else uint8.

    Raises ImageError when `image` is not uint8 of shape (H, W, 3), or is over 100 times as long as it is wide and
    is to be resized whole before its centre is cut out.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ImageError(
            f"cannot preprocess {image.dtype} of shape {image.shape}: give uint8 RGB of shape (height, width, 3), "
            "which read_image makes of any image"
        )
    return _resize_with_pillow(image, spec) if spec.antialias else _resize_two_taps(image, spec)


def normalize(pixels: NDArray[np.uint8] | NDArray[np.float32], spec: ImageSpec) -> NDArray[np.float32]:
    """`(pixel / 255 - mean) / std` of (h, w, 3) pixels in 0..255, as float32 of shape (3, h, w)."""
    height, width, channels = pixels.shape
    output = np.empty((channels, height, width), np.float32)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        np.multiply(pixels[:, :, channel], np.float32(1 / (255 * std)), out=output[channel])
        output[channel] -= np.float32(mean / std)
    return output


def _shorter_target(spec: ImageSpec) -> tuple[int, int]:
    """(height, width) that the resized image must cover before its centre is cut out (timm's floor(size / crop))."""
    return math.floor(spec.size[0] / spec.crop), math.floor(spec.size[1] / spec.crop)


def _resize_two_taps(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8] | NDArray[np.float32]:
    """tf.image.resize(method='bilinear'), and for 'shorter' the crop of vit_jax/preprocess.py.

    Only the taps of the pixels that remain are read, so the cost does not depend on the size of the source.
    """
    source, resized, start = image.shape[:2], spec.size, (0, 0)
    if spec.resize == "shorter":
        # In float32 and rounding halves to even, as `_resize_small` does with tf.round; `_crop` floors the offset.
        wanted = np.float32(_shorter_target(spec))
        ratio = np.max(wanted / np.float32(source))
        resized = tuple(int(side) for side in np.rint(np.float32(source) * ratio))
        start = tuple((have - keep) // 2 for have, keep in zip(resized, spec.size, strict=True))
    top, bottom, down = _taps(source[0], resized[0], start[0], spec.size[0])
    left, right, across = _taps(source[1], resized[1], start[1], spec.size[1])
    across, down = across[:, None], down[:, None, None]
    upper = _lerp(image[top[:, None], left], image[top[:, None], right], across)
    lower = _lerp(image[bottom[:, None], left], image[bottom[:, None], right], across)
    pixels = _lerp(upper, lower, down)
    if spec.quantize == "none":
        return pixels
    return (np.rint(pixels) if spec.quantize == "round" else pixels).astype(np.uint8)


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


def _lerp(
    low: NDArray[np.uint8] | NDArray[np.float32],
    high: NDArray[np.uint8] | NDArray[np.float32],
    weight: NDArray[np.float32],
) -> NDArray[np.float32]:
    low = low.astype(np.float32, copy=False)
    return low + (high - low) * weight


def _resize_with_pillow(image: NDArray[np.uint8], spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize, and for 'shorter' cut out the centre, as timm and torchvision."""
    pillow = Image.fromarray(image)
    resample = _FILTERS[spec.interpolation]
    height, width = spec.size
    if spec.resize == "squash":
        return np.array(pillow.resize((width, height), resample))
    resized = _shorter_size(image.shape[:2], _shorter_target(spec))
    # torchvision.transforms.functional.center_crop; round() takes halves to even there too. Resizing only the crop
    # with Pillow's box= is not bit-identical: it rounds the box to float32.
    top = round((resized[0] - height) / 2)
    left = round((resized[1] - width) / 2)
    return np.array(pillow.resize(resized[::-1], resample))[top : top + height, left : left + width]
