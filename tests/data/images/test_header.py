"""What headers say, beside Pillow's EXIF and the pictures when they are decoded."""

from __future__ import annotations

import io
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from tests.data.images.photographs import PHOTO, encoded, with_segment
from vitsmith.data.images.header import jpeg_orientation, picture_header
from vitsmith.data.images.photo import facts_of
from vitsmith.data.images.read import read_image
from vitsmith.errors import ImageError

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


TURNED = Image.Exif()
TURNED[0x0112] = 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM"])
def test_the_size_is_that_of_the_upright_picture(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"  # told by its bytes
    for more in ({}, {"exif": TURNED}):
        Image.new("RGB", (9, 5)).save(path, kind, **more)
        header, facts = picture_header(path), facts_of(path.read_bytes())
        assert header is not None and header.format == kind
        assert header[:2] == read_image(path).shape[1::-1] == (facts["width"], facts["height"])


def test_the_size_is_read_without_the_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a PNG of 500 megapixels, which is a small file."""

    def decodes(*_: Any) -> None:
        raise AssertionError("the pixels are decoded")

    monkeypatch.setattr(PngImageFile, "load", decodes)
    for more, size in (({}, (9, 5)), ({"exif": TURNED}, (5, 9))):
        Image.new("RGB", (9, 5)).save(path := tmp_path / "picture.png", **more)
        header, facts = picture_header(path), facts_of(path.read_bytes())
        assert header is not None and header[:2] == size == (facts["width"], facts["height"])


def tiff(*tags: tuple[int, int, int], canon: bool = False) -> bytes:
    """A little-endian TIFF of 4 x 4 grey pixels, with more tags; Canon's raw files have a longer header."""
    header = b"CR\2\0\0\0\0\0" if canon else b""
    usual = ((256, 3, 4), (257, 3, 4), (258, 3, 8), (259, 3, 1), (262, 3, 1), (278, 3, 4), (279, 4, 16))
    start = 8 + len(header)
    fields = sorted([*usual, *tags, (273, 4, start + 6 + 12 * (len(usual) + len(tags) + 1))])
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in fields)
    return b"II*\0" + struct.pack("<I", start) + header + struct.pack("<H", len(fields)) + entries + bytes(4 + 16)


@pytest.mark.parametrize(
    "data",
    [
        tiff(canon=True),
        tiff((50706, 4, 0x101)),
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(600),
        JPEG[:3],
        b"%PDF-1.7",
        b"",
    ],
    ids=["CR2", "DNG", "HEIC", "cut", "PDF", "empty"],
)
def test_what_is_not_read_has_no_size(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(tiff())
    assert picture_header(tmp_path / "plain") == (4, 4, "TIFF")
    (tmp_path / "picture").write_bytes(data)
    with pytest.raises(ImageError):
        read_image(tmp_path / "picture")
    assert picture_header(tmp_path / "picture") is None
    assert (facts_of(data)["width"], facts_of(data)["height"]) == (None, None)


def test_what_is_no_file_has_no_size(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", f"{tmp_path}/a\0b"):
        assert picture_header(path) is None
