"""What the header of an image file says: its format, the size of its picture, and how that is to be turned.

Nothing is decoded. A PNG whose EXIF stands behind its pixels, which is rare, has the size that it has before it is
turned.
"""

from __future__ import annotations

import io
import os
from contextlib import suppress
from typing import BinaryIO, NamedTuple

from PIL import Image

from vitsmith.data.images.exif import exif_orientation, jpeg_exif
from vitsmith.data.images.not_images import is_heic, is_raw, name_kind
from vitsmith.errors import ImageError
from vitsmith.files.regular import open_regular

# No other Pillow plugin may read bytes from outside; the one for EPS even starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_CANON_RAW = b"CR\2"  # in a TIFF's header
_ORIENTATION, _WIDTH, _HEIGHT = 0x0112, 0x0100, 0x0101  # tags of TIFF, and the first also of EXIF
_BEGIN = 512  # bytes that tell a format: HEIC lists its brands there


class PictureHeader(NamedTuple):
    """The picture of an image file, upright."""

    width: int
    height: int
    format: str
    """Pillow's name: 'JPEG', 'PNG', ..."""


def open_header(data: bytes) -> Image.Image:
    """Read the header, as Image.open does, but without its size check, which only warns where `check_size` refuses.

    Raises ImageError for a format that is not read, and whatever Pillow raises for a damaged header.
    """
    header = _opened(data[:_BEGIN], io.BytesIO(data))
    if header is None:
        raise ImageError(name_kind(data))
    return header


def picture_header(path: str | os.PathLike[str]) -> PictureHeader | None:
    """The header of an image file; None for what is not read."""
    with suppress(Exception), open_regular(path) as file:  # Pillow raises nearly anything
        header = _opened(file.read(_BEGIN), file)
        if header is not None and not is_camera_raw(header):
            turned = header_orientation(header) >= 5
            width, height = stored_size(header)
            return PictureHeader(*((height, width) if turned else (width, height)), header.format or "")
    return None


def _opened(begin: bytes, file: BinaryIO) -> Image.Image | None:
    """The header of a file that begins so; None for a format that is not read."""
    if is_heic(begin) or begin[8:11] == _CANON_RAW:
        return None
    Image.init()
    file.seek(0)
    for name in _FORMATS:
        factory, accept = Image.OPEN.get(name, (None, None))
        if factory and accept and accept(begin[:16]) is True:
            return factory(file, "")
    return None


def stored_size(header: Image.Image) -> tuple[int, int]:
    """(width, height) before the picture is turned: of a TIFF Pillow gives it so, or upright, by its version."""
    tags = getattr(header, "tag_v2", None)
    return (tags[_WIDTH], tags[_HEIGHT]) if tags else header.size


def is_camera_raw(header: Image.Image) -> bool:
    """Whether it is a camera's raw file that is a TIFF: Pillow reads its thumbnail."""
    return header.format == "TIFF" and is_raw(getattr(header, "tag_v2", {}))


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
