"""An image file that is read once: what is recorded of it is said of the very bytes that are decoded."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from contextlib import suppress
from typing import Any, NamedTuple

import simplejpeg

from vitsmith.data.images.exif import Exif, exif_of, read_exif
from vitsmith.data.images.header import header_orientation, is_camera_raw, open_header, stored_size
from vitsmith.data.images.sources import SelfReading, read_path

DIGITS = 32  # hexadecimal digits of SHA-256: enough to tell two versions of one file apart
FRESH = 2_000_000_000
"""Nanoseconds in which a file may change again without another time: FAT counts in two seconds."""


class FileState(NamedTuple):
    """The state of a file and a hash of its content. Files with equal states have equal contents."""

    size: int
    modified: int
    """Nanoseconds since 1970."""
    digest: str
    """The first half of SHA-256 in hexadecimal; empty where the file could not be read."""
    changed: int = 0
    """Nanoseconds since 1970 when the content, name, rights or times of the file last changed (ctime). 0 where that is
    not known, or was so short ago that another change might have the same time."""

    def is_still(self, now: os.stat_result) -> bool:
        """Whether a file, which is `now` so, is certainly as it was: then it need not be read."""
        return bool(self.changed) and (self.size, self.modified, self.changed) == (
            now.st_size, now.st_mtime_ns, now.st_ctime_ns,
        )  # fmt: skip


class Photo(SelfReading):
    """The path of an image file, which records what was read; for use in place of the path.

    The file is read, hashed and described in the thread that decodes it. `state` is None until then, and for a file
    that is not there.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.state: FileState | None = None
        self.facts: dict[str, Any] = {}
        """The columns of an index: `taken`, `latitude`, `longitude`, `width`, `height`, `bytes`; None where unknown."""

    def __fspath__(self) -> str:
        return self.path

    def __repr__(self) -> str:
        return f"Photo({self.path!r})"

    def read_all(self) -> bytes:
        """The bytes of the file. Raises ImageError."""
        try:
            data, found = read_path(self.path)
        except Exception:
            self.state = _unread(self.path)
            raise
        self.state = state_of(found, data)
        self.facts = facts_of(data)
        return data


FACTS = ("taken", "latitude", "longitude", "width", "height", "bytes")
"""The names of `Photo.facts`."""


def state_of(found: os.stat_result, data: bytes | None = None, *, digest: str = "") -> FileState:
    """The state of a file with the content `data`, which was `found` so just before that was read."""
    fresh = time.time_ns() - found.st_ctime_ns < FRESH
    digest = digest if data is None else hashlib.sha256(data).hexdigest()[:DIGITS]
    return FileState(found.st_size, found.st_mtime_ns, digest, 0 if fresh else found.st_ctime_ns)


def facts_of(data: bytes) -> dict[str, Any]:
    """What an image file says of itself; a broken header or EXIF leaves None."""
    exif, size = Exif(), (None, None)
    with suppress(Exception):  # decoding tells what is wrong with it
        exif, size = _described(data)
    return dict(zip(FACTS, (exif.taken, exif.latitude, exif.longitude, *size, len(data)), strict=True))


def _described(data: bytes) -> tuple[Exif, tuple[Any, Any]]:
    """The EXIF, and the (width, height) of the upright picture; None for those of a camera's raw file."""
    header = None
    size: tuple[Any, Any] = (None, None)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(data, strict=False)
        size = width, height
    except ValueError:  # no JPEG, or one of a kind that Pillow knows
        header = open_header(data)
        size = size if is_camera_raw(header) else stored_size(header)
    exif = read_exif(exif_of(data, header))
    turned = exif.orientation if header is None or exif.orientation > 1 else header_orientation(header)
    return exif, size[::-1] if turned >= 5 else size


def _unread(path: str) -> FileState | None:
    """The state of a file that cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116 - of any text
    except (OSError, ValueError):
        return None
    return state_of(found) if stat.S_ISREG(found.st_mode) else None
