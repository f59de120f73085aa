"""Read the orientation of a picture from its EXIF, and turn the picture upright."""

from __future__ import annotations

import struct
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_ORIENTATION = 0x0112  # EXIF tag
_EXIF = b"Exif\0\0"
_INTEGERS = {3: "H", 4: "I"}  # SHORT, as the standard says, and LONG


def jpeg_orientation(data: bytes) -> int:
    """EXIF orientation, 1 (upright) to 8, from the marker segments (ITU-T T.81, B.1.1.4) before the first scan."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b""):
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == _EXIF:
            return _read_exif(data[at + 10 : end])
        at = end
    return 1


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a Pillow image; 1 when it is absent or the EXIF is damaged, as in viewers."""
    with suppress(Exception):
        orientation = image.getexif().get(_ORIENTATION)
        if isinstance(orientation, int) and 1 <= orientation <= 8:
            return orientation
    return 1


def _read_exif(block: bytes) -> int:
    """The orientation in the first directory of an EXIF block, which is a TIFF (EXIF 2.32, 4.5.2).

    Photos from cameras and the web often have broken EXIF. Pillow reads all of it, and warns on standard error, or
    fails where warnings are errors; here only one field matters.
    """
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8 or struct.unpack_from(f"{order}H", block, 2)[0] != 42:
        return 1
    (at,) = struct.unpack_from(f"{order}I", block, 4)
    if at + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(f"{order}H", block, at)
    found = 1
    for entry in range(at + 2, min(at + 2 + 12 * count, len(block) - 11), 12):
        tag, kind, values = struct.unpack_from(f"{order}HHI", block, entry)
        if tag == _ORIENTATION and values == 1 and kind in _INTEGERS:
            (found,) = struct.unpack_from(order + _INTEGERS[kind], block, entry + 8)
    return found if 1 <= found <= 8 else 1


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.32, tag 0x0112): swap the axes, then mirror columns, then rows."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
