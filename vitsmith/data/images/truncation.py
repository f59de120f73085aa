"""Check that an image file is complete, as far as its format can tell: Pillow decodes half a picture from some cut-off
files.

PNG has a checksum for every chunk (https://www.w3.org/TR/png-3/#5CRC-algorithm); Pillow does not check those of the
pixels, and reads missing bytes as zeros. Other formats have lengths, which Pillow compares unless a global flag says
not to.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from PIL import Image, ImageFile

from vitsmith.errors import ImageError

_PNG = b"\x89PNG\r\n\x1a\n"
_DEFLATE_IN_TIFF = (8, 32946)
_JPEG_IN_TIFF = 7
_BITS, _REVERSED = 266, 2  # TIFF 6.0: FillOrder
_END_OF_JPEG = b"\xff\xd9"
_COMPRESSION, _STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 259, 273, 279, 324, 325  # TIFF 6.0, tags

_LOCK = threading.Lock()
_BUSY: dict[str, Any] = {"threads": 0, "flag": False}


@contextmanager
def no_half_pictures() -> Iterator[None]:
    """Inside, Pillow refuses files that are cut off, whatever `ImageFile.LOAD_TRUNCATED_IMAGES` says.

    Other libraries and notebooks set that flag for the whole process. It is restored when the last thread has left.
    """
    with _LOCK:
        _BUSY["threads"] += 1
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            _BUSY["flag"], ImageFile.LOAD_TRUNCATED_IMAGES = True, False
    try:
        yield
    finally:
        with _LOCK:
            _BUSY["threads"] -= 1
            if _BUSY["flag"] and not _BUSY["threads"]:
                _BUSY["flag"], ImageFile.LOAD_TRUNCATED_IMAGES = False, True


def check_whole(data: bytes) -> None:
    """Raise ImageError for a PNG with a wrong checksum, a PNG or JPEG without its end, a WebP shorter than it says.

    A TIFF with an incomplete directory of fields is refused too: Pillow only warns, and reads the fields that are
    there.
    """
    if data.startswith(_PNG):
        _check_png(memoryview(data))
    elif data.startswith(b"\xff\xd8"):
        # For JPEGs that were not decoded by libjpeg-turbo with its checks: Pillow ignores its warnings. Within a scan
        # 0xff is followed by 0 or a restart marker, so the end marker cannot be part of the picture (ITU-T T.81,
        # B.1.1.5).
        if data.rfind(_END_OF_JPEG) < data.rfind(b"\xff\xda"):
            raise ImageError("is cut off: it is a JPEG without its end; replace the image")
    elif data.startswith((b"II*\0", b"MM\0*")):
        _check_tiff(data)
    elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        size = int.from_bytes(data[4:8], "little") + 8
        if size > len(data):
            raise ImageError(f"is cut off: {len(data):,} of {size:,} bytes are there; replace the image")


def _check_tiff(data: bytes) -> None:
    """Check the first directory, a count of fields of 12 bytes each and the next position (TIFF 6.0, section 2)."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    at = int.from_bytes(data[4:8], order)
    end = at + 2 + 12 * int.from_bytes(data[at : at + 2], order) + 4
    if end > len(data):
        raise ImageError(f"is cut off: the fields of this TIFF end at byte {end:,} of {len(data):,}; replace the image")


def _check_png(data: memoryview) -> None:
    at, kind = len(_PNG), b""
    for kind, payload in _chunks(data):
        end = at + 12 + len(payload)
        if zlib.crc32(data[at + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            name = kind.decode("ascii") if kind.isalpha() else "unknown"
            raise ImageError(f"is damaged: the checksum of its {name} chunk at byte {at:,} is wrong; replace the image")
        at = end
    if kind != b"IEND":
        raise ImageError("is cut off: it is a PNG without its end; replace the image")


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield (kind, payload) of each chunk of a PNG, up to its end or the first incomplete chunk."""
    at, kind = len(_PNG), b""
    while at + 12 <= len(data) and kind != b"IEND":
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        if end > len(data):
            return
        kind = bytes(data[at + 4 : at + 8])
        yield kind, data[at + 8 : end - 4]
        at = end


def check_rows(image: Image.Image, data: bytes) -> None:
    """Raise ImageError for a decoded PNG whose compressed stream ends before its last row, with right checksums.

    Pillow leaves the other rows black. It writes whole rows from the top, so that a last row that is not black shows
    that all are there. When it is black, or the rows are interlaced, the stream is measured.
    """
    if image.format != "PNG" or not data.startswith(_PNG):
        return
    interlaced = data[28]
    last = image.crop((0, image.height - 1, image.width, image.height)).tobytes()
    if not interlaced and last.strip(b"\0"):
        return
    expected = _stream_bytes(data)
    if _inflated(memoryview(data), expected) < expected:
        raise ImageError("is cut off: its compressed pixels end before its last row; replace the image")


def _stream_bytes(data: bytes) -> int:
    """Bytes of the filtered rows that the header of a PNG promises (PNG 3, 7.2 and 8.1)."""
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    bits = data[24] * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[data[25]]
    parts = [(width, height)]
    if data[28]:
        steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
        parts = [(-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in steps]
    return sum(tall * (1 + -(-wide * bits // 8)) for wide, tall in parts if wide > 0 and tall > 0)


def _inflated(data: memoryview, most: int) -> int:
    """The number of bytes that the IDAT chunks of a PNG inflate to, at most `most`."""
    inflate, count = zlib.decompressobj(), 0
    for kind, payload in _chunks(data):
        if kind == b"IDAT":
            rest = bytes(payload)
            while rest and count < most and not inflate.eof:
                count += len(inflate.decompress(rest, 1 << 20))
                rest = inflate.unconsumed_tail
    return count


def check_opened(image: Image.Image, data: bytes) -> None:
    """Raise ImageError for damage that can only be found once the header is read.

    These are: a deflated TIFF with a wrong checksum; a JPEG-compressed TIFF with a part that does not end as a JPEG
    does (libjpeg fills in grey and warns, and libtiff drops the warning); a WebP or AVIF that ends in zeros, like an
    unfinished download, which decoders read as pixels. Compressed pixels of one colour may end in zeros too, so only
    more zeros than such pictures have are damage (at most 3,462 were found, for 36 million white pixels).
    """
    tags: Any = getattr(image, "tag_v2", {})
    if image.format == "TIFF" and tags.get(_COMPRESSION) in _DEFLATE_IN_TIFF and tags.get(_BITS) != _REVERSED:
        _check_deflated(image, tags, data)
    if image.format == "TIFF" and tags.get(_COMPRESSION) == _JPEG_IN_TIFF:
        for places, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
            for at, size in zip(tags.get(places, ()), tags.get(sizes, ()), strict=False):
                if _END_OF_JPEG not in data[at : at + size][-16:]:
                    raise ImageError("is a damaged TIFF: a part of its JPEG data has no end; replace the image")
    if image.format in ("WEBP", "AVIF"):
        whole = data[: int.from_bytes(data[4:8], "little") + 8] if image.format == "WEBP" else data
        zeros = len(whole) - len(whole.rstrip(b"\0"))  # bytes behind the end of a WebP are not part of it
        if zeros > 64 + image.width * image.height // 4000:
            raise ImageError(f"is damaged: its last {zeros:,} bytes are zeros; replace the image")


def _check_deflated(image: Image.Image, tags: Any, data: bytes) -> None:
    """Raise ImageError for a part of a deflated TIFF with a wrong checksum; libtiff does not check it."""
    left = 16 * image.width * image.height + (1 << 24)  # more bytes than any pixels take are not checked
    for places, sizes in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        for at, size in zip(tags.get(places, ()), tags.get(sizes, ()), strict=False):
            inflate, rest = zlib.decompressobj(), data[at : at + size]
            try:
                while rest and left > 0 and not inflate.eof:
                    left -= len(inflate.decompress(rest, 1 << 20))
                    rest = inflate.unconsumed_tail
            except zlib.error as error:
                raise ImageError(f"is a damaged TIFF: {error}; replace the image") from error
