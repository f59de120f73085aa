"""The orientation of a JPEG, beside what Pillow reads of the same EXIF."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from tests.data.images.photographs import PHOTO, encoded, with_segment
from vitsmith.data.images.orientation import jpeg_orientation
from vitsmith.data.images.read import read_image

JPEG = encoded(PHOTO, "JPEG")


def exif(order: str, *fields: tuple[int, int, int, bytes]) -> bytes:
    """An EXIF block of one directory: tag, type, count and the four bytes of the value."""
    entries = b"".join(struct.pack(f"{order}HHI", *field[:3]) + field[3] for field in fields)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    return b"Exif\0\0" + start + struct.pack(f"{order}H", len(fields)) + entries + bytes(4)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_it_is_what_pillow_reads(order, kind, orientation) -> None:
    value = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], orientation).ljust(4, b"\0")
    data = with_segment(JPEG, 0xE1, exif(order, (0x010E, 2, 2, b"a\0\0\0"), (0x0112, kind, 1, value)))
    with Image.open(io.BytesIO(data)) as image:
        expected = image.getexif().get(0x0112)
    assert jpeg_orientation(data) == (expected if expected in range(1, 9) else 1)


def test_broken_exif_is_read_as_far_as_it_goes_without_a_warning() -> None:
    block = exif(
        "<", (0x0112, 3, 1, b"\6\0\0\0"), (0x010F, 2, 500, struct.pack("<I", 9999)), (0x8769, 4, 1, b"\xff" * 4)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = with_segment(JPEG, 0xE1, block)
        assert jpeg_orientation(data) == 6
        np.testing.assert_array_equal(read_image(data), np.rot90(read_image(JPEG), -1))
        for end in range(6, len(block)):
            assert jpeg_orientation(with_segment(JPEG, 0xE1, block[:end])) in (1, 6)
