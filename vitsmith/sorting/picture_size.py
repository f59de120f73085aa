"""The size of a picture, from the header of its file: nothing is decoded.

A PNG whose EXIF stands behind its pixels, which is rare, has the size that it has before it is turned.
"""

from __future__ import annotations

import io
from contextlib import suppress

from PIL import Image

from vitsmith.data.images.orientation import header_orientation

_WIDTH, _HEIGHT = 256, 257  # tags of TIFF
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")  # as in data/images/read.py


def picture_size(path: str) -> tuple[int, int]:
    """(width, height) of the upright picture in pixels; (0, 0) for what cannot be read."""
    with suppress(Exception), open(path, "rb") as file:  # noqa: PTH123 - of any text; Pillow raises nearly anything
        return _size(file)
    return 0, 0


def _size(file: io.BufferedReader) -> tuple[int, int]:
    Image.init()
    begin = file.read(16)
    file.seek(0)
    for name in _FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))  # as Image.open does, which also warns of large pictures
        if factory and accept and accept(begin) is True:
            header = factory(file, "")
            width, height = header.size
            if tags := getattr(header, "tag_v2", None):  # of a TIFF, as it is or upright by the version of Pillow
                width, height = tags[_WIDTH], tags[_HEIGHT]
            return (height, width) if header_orientation(header) >= 5 else (width, height)
    return 0, 0
