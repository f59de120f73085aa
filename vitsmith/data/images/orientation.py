"""Read the orientation of a picture from its EXIF, and turn the picture upright."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitsmith.data.images.exif import exif_orientation, jpeg_exif

_ORIENTATION = 0x0112  # EXIF tag


def jpeg_orientation(data: bytes) -> int:
    """EXIF orientation of a JPEG, 1 (upright) to 8."""
    return exif_orientation(jpeg_exif(data))


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a Pillow image; 1 when it is absent or the EXIF is damaged, as in viewers.

    Pillow decodes a PNG for it.
    """
    with suppress(Exception):
        return _valid(image.getexif().get(_ORIENTATION))
    return 1


def header_orientation(header: Image.Image) -> int:
    """As `orientation_of`, and nothing is decoded: EXIF that stands behind the pixels of a PNG is not found."""
    with suppress(Exception):
        return _valid(Image.Image.getexif(header).get(_ORIENTATION))  # PngImageFile.getexif decodes the pixels
    return 1


def _valid(orientation: object) -> int:
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.32, tag 0x0112): swap the axes, then mirror columns, then rows."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
