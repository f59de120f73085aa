"""Read the few EXIF fields that matter here: orientation, date and place.

Photos from cameras and the web often have broken EXIF. Pillow reads all of it, and warns on standard error, or fails
where warnings are errors; here a field that is broken is one that is not there.
"""

from __future__ import annotations

import re
import struct
from datetime import datetime
from typing import NamedTuple

from PIL import Image

_EXIF = b"Exif\0\0"
_JPEG = b"\xff\xd8"
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*")

_ORIENTATION, _EXIF_FIELDS, _GPS_FIELDS, _TAKEN = 0x0112, 0x8769, 0x8825, 0x9003  # tags
_NORTH_OR_SOUTH, _LATITUDE, _EAST_OR_WEST, _LONGITUDE = 1, 2, 3, 4  # tags of the GPS directory
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8}
"""Bytes of one value of each type (EXIF 2.32, 4.6.2)."""
_INTEGERS = {3: "H", 4: "I"}  # SHORT and LONG
_FRACTIONS = {5: "II", 10: "ii"}  # RATIONAL and SRATIONAL
_DATE = re.compile(rb"(\d{4})[:/-](\d\d)[:/-](\d\d)[ T](\d\d):(\d\d):(\d\d)")
_DIGITS = 7  # of degrees: about a centimetre
_CHUNKS = 100_000  # of a PNG that are looked at: 800 MB in chunks of the usual 8 KiB


class Exif(NamedTuple):
    """What a camera wrote about a photo; None where it did not, or where it is broken."""

    orientation: int = 1
    """1 (upright) to 8."""
    taken: str | None = None
    """DateTimeOriginal, 'YYYY-MM-DDTHH:MM:SS', in the camera's own time."""
    latitude: float | None = None
    """Degrees, north is positive."""
    longitude: float | None = None
    """Degrees, east is positive."""


class _Field(NamedTuple):
    kind: int
    values: int
    at: int
    """Where they are."""


class _Block:
    """A block of EXIF, which is a TIFF (EXIF 2.32, 4.5.2)."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.order = {b"II": "<", b"MM": ">"}.get(data[:2], "")
        if self.order and (len(data) < 8 or self._number("H", 2) != 42):
            self.order = ""

    def first(self) -> dict[int, _Field]:
        """The first directory; empty when this is no EXIF."""
        return self.directory(self._number("I", 4)) if self.order else {}

    def directory(self, at: int) -> dict[int, _Field]:
        """Tag -> field, of those whose values lie in the block."""
        found: dict[int, _Field] = {}
        if at + 2 > len(self.data):
            return found
        count = self._number("H", at)
        for entry in range(at + 2, min(at + 2 + 12 * count, len(self.data) - 11), 12):
            tag, kind, values = struct.unpack_from(f"{self.order}HHI", self.data, entry)
            size = _BYTES.get(kind, 0) * values
            where = entry + 8 if size <= 4 else self._number("I", entry + 8)
            if 0 < size <= len(self.data) - where:
                found[tag] = _Field(kind, values, where)
        return found

    def integer(self, field: _Field | None) -> int | None:
        if field is None or field.values != 1 or field.kind not in _INTEGERS:
            return None
        return self._number(_INTEGERS[field.kind], field.at)

    def text(self, field: _Field | None) -> bytes:
        return self.data[field.at : field.at + field.values] if field is not None and field.kind == 2 else b""

    def degrees(self, field: _Field | None, side: bytes, signs: bytes) -> float | None:
        """Degrees from three fractions: degrees, minutes and seconds. `signs` are the letters for + and -."""
        if field is None or field.values != 3 or field.kind not in _FRACTIONS or side[:1] not in (signs[:1], signs[1:]):
            return None
        numbers = struct.unpack_from(self.order + 3 * _FRACTIONS[field.kind], self.data, field.at)
        if not all(numbers[1::2]):
            return None
        value = sum(numbers[2 * at] / numbers[2 * at + 1] / 60**at for at in range(3))
        most = 90 if signs == b"NS" else 180
        return round(value if side[:1] == signs[:1] else -value, _DIGITS) if 0 <= value <= most else None

    def _number(self, kind: str, at: int) -> int:
        number: int = struct.unpack_from(self.order + kind, self.data, at)[0]
        return number


def read_exif(block: bytes) -> Exif:
    """The fields of an EXIF block, without the 'Exif' before it."""
    read = _Block(block)
    first = read.first()
    inner = read.integer(first.get(_EXIF_FIELDS))
    gps = read.integer(first.get(_GPS_FIELDS))
    taken = read.text(read.directory(inner).get(_TAKEN)) if inner else b""
    place = read.directory(gps) if gps else {}
    latitude = read.degrees(place.get(_LATITUDE), read.text(place.get(_NORTH_OR_SOUTH)), b"NS")
    longitude = read.degrees(place.get(_LONGITUDE), read.text(place.get(_EAST_OR_WEST)), b"EW")
    if latitude is None or longitude is None:  # half a place is none
        latitude = longitude = None
    return Exif(_orientation(read, first), _date(taken), latitude, longitude)


def exif_orientation(block: bytes) -> int:
    """The orientation of an EXIF block, 1 (upright) to 8."""
    read = _Block(block)
    return _orientation(read, read.first())


def exif_of(data: bytes, header: Image.Image | None = None) -> bytes:
    """The EXIF block of an image file, from its bytes and, where it is no JPEG, its header as Pillow read it."""
    if data.startswith(_JPEG):
        return jpeg_exif(data)
    if data.startswith(_TIFF):
        return data
    if data.startswith(_PNG):
        return _png_exif(data)
    block = header.info.get("exif", b"") if header is not None else b""
    return block.removeprefix(_EXIF) if isinstance(block, bytes) else b""


def jpeg_exif(data: bytes) -> bytes:
    """The EXIF block of a JPEG, from the marker segments (ITU-T T.81, B.1.1.4) before the first scan; b'' for none."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] not in (b"\xda", b""):
        if data[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xE1 and data[at + 4 : at + 10] == _EXIF:
            return data[at + 10 : end]
        at = end
    return b""


def _png_exif(data: bytes) -> bytes:
    """The chunk eXIf, which may stand behind the pixels (PNG, third edition, 11.3.4.4)."""
    at = len(_PNG)
    for _ in range(_CHUNKS):
        if at + 12 > len(data):
            break
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if kind == b"eXIf":
            return data[at + 8 : at + 8 + size].removeprefix(_EXIF)
        at += 12 + size
    return b""


def _orientation(block: _Block, first: dict[int, _Field]) -> int:
    found = block.integer(first.get(_ORIENTATION))
    return found if found is not None and 1 <= found <= 8 else 1


def _date(text: bytes) -> str | None:
    """'2024:05:01 10:20:30' -> '2024-05-01T10:20:30'; None for what is no date, as '0000:00:00 00:00:00'."""
    match = _DATE.match(text)
    try:
        return datetime(*map(int, match.groups())).isoformat() if match else None  # type: ignore[arg-type]
    except ValueError:
        return None
