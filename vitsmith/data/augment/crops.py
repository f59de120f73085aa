"""The random crop of a training image, at the model's size; no more of the file is decoded than the crop needs.

The box is drawn in the upright picture at its full size, from the header alone. `AugmentSpec.decoding` chooses between
exact and fast: 'exact' gives the pixels of the whole picture decoded, cut and resized as for evaluation; 'scaled' may
decode a JPEG at 1/2, 1/4 or 1/8 of its size, and resizes in whole numbers, within one level of the exact resize.
"""

from __future__ import annotations

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F

from vitsmith.data.augment.settings import AugmentSpec, Box, sample_box
from vitsmith.data.images import jpeg
from vitsmith.data.images.header import jpeg_orientation
from vitsmith.data.images.preprocess import resize_image
from vitsmith.data.images.read import (
    MAX_PIXELS,
    Rgb,
    check_size,
    decode_image,
    named_errors,
    reduction,
    upright,
)
from vitsmith.data.images.sources import ImageSource, is_encoded, read_bytes
from vitsmith.specs import ImageSpec

# How much larger than its target a crop must still be after a scaled decode. Measured on four photos of scikit-image
# (quality 90, target 48), the mean difference from a full decode in 8-bit levels, at 1x / 1.5x / 2x / 3x: antialiased
# 1.0 / 0.5 / 0.35 / 0.2; two taps 5 / 4 / 3 / 2.6, as they skip pixels that a reduction averages.
# A photo of 12 megapixels takes 30 / 33 / 36 / 39 ms. Most of that is reading the stream of bits, which no scale saves.
# libjpeg's fast flags would gain less still (fastdct 1%, fastupsample 5%), and 3/8, 5/8 ... are slower than full size.
_MARGIN = 1.5

_TORCH_FILTERS = ("bilinear", "bicubic")  # torch has the same kernels as Pillow for these; it has no Lanczos
_LONGEST = 16  # times the width: torch narrows all rows first, and a line of 1 x 1000000 pixels would become huge


def read_crop(source: ImageSource, images: ImageSpec, augment: AugmentSpec, random: np.random.Generator) -> Rgb:
    """A random crop at the model's size: uint8 of shape (h, w, 3).

    The crop is resized as `images` says for whole images and rounded, or truncated where it says `truncate`. A JPEG is
    decoded only down to the last row that is needed: damage below that row is not noticed, but a file that is cut off
    is.

    Raises ImageError that begins with the name of the source.
    """
    scaled = augment.decoding == "scaled"
    part = read_part(source, augment, random, needed=images.size if scaled else None)
    with named_errors(source):
        return _resize(part, images, approximately=scaled)


def read_part(
    source: ImageSource,
    augment: AugmentSpec,
    random: np.random.Generator,
    *,
    needed: tuple[int, int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> Rgb:
    """A random box of the upright picture: uint8 of shape (height, width, 3), perhaps a view into a larger array.

    `needed` is the (height, width) that the box will be resized to. With it, a JPEG may be decoded at the smallest size
    at which the box is still at least `needed`; the edges of the box then move to whole pixels of the smaller picture,
    by at most half a pixel of it. Errors as `read_image`.
    """
    with named_errors(source):
        data = read_bytes(source) if is_encoded(source) else source
        if isinstance(data, bytes) and (size := _upright_size(data, max_pixels)):
            box = sample_box(*size, augment, random)
            part = _decode_box(data, size, box, needed)
            return _cut(decode_image(data, None, max_pixels), box) if part is None else part
        pixels = decode_image(data, None, max_pixels)
        return _cut(pixels, sample_box(pixels.shape[0], pixels.shape[1], augment, random))


def _upright_size(data: bytes, max_pixels: int) -> tuple[int, int] | None:
    """(height, width) of a JPEG that may be decoded in part; None for all other files."""
    if not data.startswith(b"\xff\xd8\xff"):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data, strict=False)
    except ValueError:
        return None
    check_size(height, width, max_pixels)
    if colours in ("CMYK", "YCCK"):
        return None
    return (width, height) if jpeg_orientation(data) >= 5 else (height, width)


def _decode_box(data: bytes, size: tuple[int, int], box: Box, needed: tuple[int, int] | None) -> Rgb | None:
    """The pixels of `box` in the upright picture; None when the file is damaged or unusual: decode all of it."""
    orientation = jpeg_orientation(data)
    reduced = reduction((box.height, box.width), needed, margin=_MARGIN)
    stored = _stored_box(box, size, orientation)
    whole = (size[1], size[0]) if orientation >= 5 else size
    pixels = jpeg.decode(data, whole, reduction=reduced, rows=stored.top + stored.height)
    if pixels is None:
        return None
    edges = (stored.top, stored.left, stored.top + stored.height, stored.left + stored.width)
    top, left, bottom, right = (round(edge / reduced) for edge in edges)
    return upright(pixels[top:bottom, left:right], orientation)


def _stored_box(box: Box, size: tuple[int, int], orientation: int) -> Box:
    """The place in the stored picture of a box of the upright picture of `size`: the inverse of `upright`."""
    top, left, height, width = box
    if orientation in (3, 4, 7, 8):
        top = size[0] - top - height
    if orientation in (2, 3, 6, 7):
        left = size[1] - left - width
    return Box(left, top, width, height) if orientation >= 5 else Box(top, left, height, width)


def _cut(pixels: Rgb, box: Box) -> Rgb:
    return pixels[box.top : box.top + box.height, box.left : box.left + box.width]


def _resize(part: Rgb, images: ImageSpec, *, approximately: bool) -> Rgb:
    if approximately and images.interpolation in _TORCH_FILTERS and part.shape[0] <= _LONGEST * part.shape[1]:
        return _resize_in_whole_numbers(part, images)
    pixels = resize_image(part, images.model_copy(update={"resize": "squash", "crop": 1.0}))
    return np.rint(pixels).clip(0, 255).astype(np.uint8)  # a change only where `images` does not quantise


def _resize_in_whole_numbers(part: Rgb, images: ImageSpec) -> Rgb:
    """Resize with torch's vectorised uint8 code: on one thread 6 times as fast as two taps in NumPy, 4 times as Pillow.

    Values differ from those of `resize_image` by at most one level.
    """
    # Mirrored views have negative strides, which torch does not support.
    channels_last = torch.from_numpy(np.ascontiguousarray(part)).permute(2, 0, 1)[None]
    resized = F.interpolate(channels_last, images.size, mode=images.interpolation, antialias=images.antialias)
    return resized[0].permute(1, 2, 0).numpy()
