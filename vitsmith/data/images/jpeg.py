"""Decode only the needed part of a JPEG: at a fraction of its size, and only down to a certain row.

A sequential JPEG is a stream of bits from the top row to the bottom, so the rows below the last needed one need not be
decoded. libjpeg-turbo stops at the height that the header gives (ITU-T T.81, B.2.2): to decode the upper rows only, we
decode a copy with a smaller height in its header.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray

_BLOCK = 8
_SEQUENTIAL = (0xC0, 0xC1)  # markers SOF0 and SOF1: Huffman-coded, every row complete before the next
_OTHER_FRAMES = (0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)  # progressive, lossless, arithmetic
_RESTARTS, _SCAN = 0xDD, 0xDA

# libjpeg's warning (jerror.h, JWRN_EXTRANEOUS_DATA) when all rows were decoded without a warning and more bytes, here
# those of the rows below, come before the end marker. A file without its end marker causes another warning.
_LEFT_OVER = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0xd9")


class Frame(NamedTuple):
    """The properties of a sequential JPEG that decoding its upper rows needs."""

    height_at: int
    """Position of the height in the file, in bytes."""
    sampling: int
    """Rows of pixels for each row of the coarsest component."""


def decode(
    data: bytes, size: tuple[int, int], *, reduction: int = 1, rows: int | None = None
) -> NDArray[np.uint8] | None:
    """RGB pixels of a JPEG of (height, width), both divided by `reduction` (1, 2, 4, 8) and rounded up.

    With `rows`, counted at full size, the rows below them may be missing; the others have the same values as when all
    is decoded. None when libjpeg warns about these rows or cannot decode them: a decoder of the whole file then finds
    the reason.
    """
    height, width = size
    frame = _sequential_frame(data) if rows is not None and rows < height else None
    source: bytes | bytearray = data
    if frame is not None and rows is not None:
        # Chroma is interpolated between two rows of chroma.
        unit = _BLOCK * frame.sampling
        height = min(-(-(rows + frame.sampling * reduction) // unit) * unit, height)
        source = bytearray(data)
        source[frame.height_at : frame.height_at + 2] = height.to_bytes(2, "big")
    least = {"min_height": -(-height // reduction), "min_width": -(-width // reduction)}
    try:
        tall, wide, _, _ = simplejpeg.decode_jpeg_header(source, strict=False, **least)
        pixels = np.empty((tall, wide, 3), np.uint8)
        simplejpeg.decode_jpeg(source, "RGB", buffer=pixels, strict=True, **least)
    except ValueError as error:
        # simplejpeg raises for a warning too, once all rows are decoded.
        return pixels if _LEFT_OVER.fullmatch(str(error)) else None
    return pixels


def _sequential_frame(data: bytes) -> Frame | None:
    """The frame; None for a JPEG with several scans, with restart markers, or with irregular segments."""
    at, frame, components = 2, None, 0
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker = data[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker in (_RESTARTS, *_OTHER_FRAMES):
            return None
        if marker == _SCAN:
            return frame if frame and data[at + 4] == components else None
        if marker in _SEQUENTIAL:
            # The segment: length 2, precision 1, height 2, width 2, components 1; of each: name 1, sampling 1, table 1.
            components = data[at + 9]
            frame = Frame(at + 5, max((byte & 15 for byte in data[at + 11 : at + 10 + 3 * components : 3]), default=1))
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
