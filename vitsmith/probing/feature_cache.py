"""Features kept on disk by the content of their image, so that the same images never run through a model twice.

A folder below the cache folder belongs to one kind of features of one model. It holds parts: files that are written
whole, never changed, and named by chance, so that several processes may write at once. Each part has the digests of its
images, their features and a checksum of both. All of it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitsmith.arguments import Tell
from vitsmith.arrays import Array
from vitsmith.errors import OutputError
from vitsmith.files.atomic import replacing
from vitsmith.files.cache import cache_folder

FOLDER = "features"
"""The folder below the cache folder."""

DIGEST = 32
"""Bytes of an image's digest."""

_SUFFIX = ".safetensors"
_FORMAT = b"vitsmith features 1"
_MOST_ROWS = 1024
_MOST_SECONDS = 30.0
"""A part is written when it has so many images, or after so long: a process that is killed loses no more."""


class FeatureCache:
    """The features of one kind of one model, by the digest of the image. Letters: N images, D features."""

    def __init__(self, name: str, tell: Tell) -> None:
        self._tell = tell
        self._folder: Path | None = None
        self._place: dict[bytes, tuple[Path, int]] = {}
        self._parts: dict[Path, Array | None] = {}
        self._new: dict[bytes, Array] = {}
        self._unwritten: list[bytes] = []
        self._since = time.monotonic()
        try:
            self._folder = cache_folder() / FOLDER / name
        except OutputError as error:
            self._tell(f"features are not kept for the next time: {error}")
            return
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            self._place.update({digest: (path, row) for row, digest in enumerate(_read_digests(path))})

    def get(self, digest: bytes) -> Array | None:
        """float32 (D,) of the image with that digest; None where it is not there, or damaged."""
        if (row := self._new.get(digest)) is not None:
            return row
        found = self._place.get(digest)
        if found is None:
            return None
        path, position = found
        if path not in self._parts:
            self._parts[path] = _read_part(path)
        part = self._parts[path]
        return None if part is None else part[position]

    def add(self, digest: bytes, row: Array) -> None:
        """Keeps the features (D,) of an image, and writes a part when there is enough for one."""
        self._new[digest] = row
        self._unwritten.append(digest)
        if len(self._unwritten) >= _MOST_ROWS or time.monotonic() - self._since > _MOST_SECONDS:
            self.write()

    def write(self) -> None:
        """Writes what is not written yet. Where that is not possible, the features are computed again the next time."""
        self._since = time.monotonic()
        digests, self._unwritten = self._unwritten, []
        if not digests or self._folder is None:
            return
        try:
            _write_part(self._folder, digests, np.stack([self._new[digest] for digest in digests]).astype(np.float32))
        except OutputError as error:
            self._folder = None
            self._tell(f"features are not kept for the next time: {error}")


def _write_part(folder: Path, digests: list[bytes], features: Array) -> None:
    from safetensors.numpy import save

    images = np.frombuffer(b"".join(digests), np.uint8).reshape(len(digests), DIGEST)
    checksum = np.frombuffer(_checksum(images, features), np.uint8)
    with replacing(folder / f"{secrets.token_hex(16)}{_SUFFIX}", durable=False) as partial:
        partial.write_bytes(save({"images": images, "features": features, "checksum": checksum}))


def _read_digests(path: Path) -> list[bytes]:
    """The digests of a part's images, which are not compared with its checksum yet; [] for a damaged file."""
    from safetensors import SafetensorError, safe_open

    with suppress(SafetensorError, OSError, ValueError, KeyError), safe_open(path, framework="np") as file:
        images: NDArray[np.uint8] = file.get_tensor("images")
        if images.dtype == np.uint8 and images.ndim == 2 and images.shape[1] == DIGEST:
            return [one.tobytes() for one in images]
    return []


def _read_part(path: Path) -> Array | None:
    """The features (N, D) of a part; None for a damaged file, which is removed."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(path.read_bytes())
        features: Array = arrays["features"]
        if arrays["checksum"].tobytes() == _checksum(arrays["images"], features):
            return features
    except (SafetensorError, ValueError, KeyError, TypeError):
        pass
    except OSError:  # deleted meanwhile
        return None
    with suppress(OSError):
        path.unlink()
    return None


def _checksum(images: NDArray[np.uint8], features: Array) -> bytes:
    digest = hashlib.sha256(_FORMAT)
    for array in (images, features):
        digest.update(f" {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()
