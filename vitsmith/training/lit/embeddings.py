"""Embeddings of a locked tower's images, computed once: a memory-mapped .npy in the run's folder.

    <run>/embeddings/train.npy        (N, E) unit vectors; rows of NaN are images that cannot be read
                     train.json       the image tower, data and type that they were made from
                     train.parts/     finished parts of an unfinished train.npy, 1,024 images a file

The processes share the parts evenly and read the files of all, so all of them must see the same folder.
"""

from __future__ import annotations

import math
import shutil
import struct
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vitsmith.arrays import Array
from vitsmith.data.batches.loader import Held, evaluation_batches
from vitsmith.data.images.unreadable import most_unreadable
from vitsmith.data.sets.samples import Samples
from vitsmith.encode import first_without_direction
from vitsmith.errors import NOT_FINITE, DatasetError, NotFiniteError
from vitsmith.files.atomic import replacing, write_text
from vitsmith.json_text import json_or_none, to_json
from vitsmith.layers.unit import normalize
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.training.devices import Devices
from vitsmith.weights.containers.archive import LONGEST_HEADER, NPY_DAMAGE

Done = Callable[[str, int, int], None]
"""Receives the name of the images, how many of them are embedded, and how many there are."""

_MARK = b"vitsmith"
_SEAL = struct.Struct("<8sI")
PART = 1024
"""Images in a part: the most that is lost when a run is killed."""


class EmbeddingStore:
    """The embeddings of one run, computed where they are missing or belong to another tower or other data.

    Args:
        folder: the run's; the same for all processes.
        tower: in eval mode, on the device of `devices`.
        identity: that of the tower with its preprocessing.
        kept: the type on disk, 'float32' or 'float16'.
        batch: images computed at once.
        skip_unreadable: share of the images that may be unreadable.
    """

    def __init__(
        self,
        folder: Path,
        tower: VisionTransformer,
        images: ImageSpec,
        identity: str,
        devices: Devices,
        *,
        kept: str = "float32",
        batch: int = 64,
        skip_unreadable: float = 0.0,
        threads: int | None = None,
    ) -> None:
        self.folder = folder / "embeddings"
        self._tower, self._images, self._identity, self._devices = tower, images, identity, devices
        self._kept, self._batch, self._skip, self._threads = np.dtype(kept), batch, skip_unreadable, threads
        self._width = tower.config.classes or tower.config.feature_width
        self.complaints: dict[str, list[str]] = {}
        """The images of each set that this run could not read, with the reasons."""

    def open(self, name: str, samples: Samples, on_done: Done = lambda *_: None) -> Array:
        """(N, E) unit vectors of all images, in order, not loaded into memory. Rows of NaN could not be read.

        All processes call it. What an earlier process computed for the same tower and data is kept.
        Raises DatasetError for more unreadable images than are allowed, OutputError for a full disk.
        """
        key = {
            "tower": self._identity,
            "data": samples.fingerprint(),
            "images": len(samples),
            "width": self._width,
            "type": self._kept.name,
        }
        whole, parts, described = (self.folder / f"{name}{end}" for end in (".npy", ".parts", ".json"))
        known = json_or_none(described)
        found = self._read(whole, len(samples)) if known == key else None
        self._devices.wait()  # all have looked at it before the main process changes it
        if found is not None:
            if self._devices.main:
                shutil.rmtree(parts, ignore_errors=True)  # left by a process that was killed while it removed them
            return found
        if self._devices.main and (known != key or whole.exists()):
            self._clear(whole, parts, described, key)
        self._devices.wait()
        made_here = self._devices.gather(self._make_parts(parts, samples, name, on_done))
        complaints = sorted({one for each, _ in made_here for one in each})
        unreadable = sum(count for _, count in made_here)
        self.complaints[name] = complaints
        if unreadable > most_unreadable(len(samples), self._skip):
            raise DatasetError(
                f"{unreadable:,} of {len(samples):,} {name} images cannot be read, and data.skip_unreadable = "
                f"{self._skip:g} allows {most_unreadable(len(samples), self._skip)} ({complaints[0]}): replace or "
                "remove them, or raise data.skip_unreadable"
            )
        if self._devices.main:
            self._join(whole, parts, len(samples))
        self._devices.wait()
        made: Array = np.load(whole, mmap_mode="r")
        return made

    def _read(self, whole: Path, count: int) -> Array | None:
        """The embeddings of an earlier run; None if damaged, or if more images are missing than are allowed now."""
        if not whole.exists():
            return None
        if not is_intact(whole):
            return None
        found: Array = np.load(whole, mmap_mode="r")
        if found.shape != (count, self._width) or found.dtype != self._kept:
            return None
        return None if np.isnan(found[:, 0]).sum() > most_unreadable(len(found), self._skip) else found

    def _clear(self, whole: Path, parts: Path, described: Path, key: dict[str, Any]) -> None:
        """Removes embeddings that are of another tower or of other data, or lack images."""
        whole.unlink(missing_ok=True)
        shutil.rmtree(parts, ignore_errors=True)
        write_text(described, to_json(key, indent=2, ascii_only=True) + "\n")

    def _make_parts(self, parts: Path, samples: Samples, name: str, on_done: Done) -> tuple[list[str], int]:
        """Makes the missing parts of this process; returns complaints about unreadable images, and their number."""
        complaints: list[str] = []
        unreadable = 0
        on_done(name, 0, len(samples))
        for number, at in enumerate(range(0, len(samples), PART)):
            if number % self._devices.count != self._devices.index:
                continue
            place, stop = _part(parts, number), min(at + PART, len(samples))
            # Somebody may have mended an image since.
            if not place.exists() or not is_intact(place) or np.isnan(np.load(place)[:, 0]).any():
                rows = self._embed(samples.select(range(at, stop)), complaints)
                with replacing(place) as partial:
                    with partial.open("wb") as stream:
                        np.save(stream, rows)
                    seal(partial)
                unreadable += int(np.isnan(rows[:, 0]).sum())
            if unreadable > most_unreadable(len(samples), self._skip):
                break  # reported together with those of the other processes
            on_done(name, stop, len(samples))
        return complaints, unreadable

    @torch.no_grad()
    def _embed(self, samples: Samples, complaints: list[str]) -> Array:
        rows = np.full((len(samples), self._width), np.nan, self._kept)
        batches = evaluation_batches(
            samples,
            self._images,
            batch=self._batch,
            skip_unreadable=1.0,  # a whole part may be unreadable; the share of all images is checked later
            threads=self._threads,
            on_unreadable=complaints.append,
        )
        with closing(batches):
            for held in batches:
                if len(held.labels):
                    vectors = normalize(self._tower(held.images.to(self._devices.device)))
                    rows[held.indices.numpy()] = self._checked(vectors.cpu().numpy(), held, samples)
        return rows

    def _checked(self, vectors: Array, held: Held, samples: Samples) -> Array:
        """Returns the vectors. Raises NotFiniteError for NaN, which would mark an image as unreadable."""
        if (wrong := first_without_direction(vectors)) is not None:
            name = samples.names[int(held.indices[wrong])]
            raise NotFiniteError(
                f"{name}: its embedding by the image tower is zero or {NOT_FINITE}: take another tower, or leave the "
                "image out"
            )
        return vectors

    def _join(self, whole: Path, parts: Path, count: int) -> None:
        """Joins all parts into one file, because a process may open only so many files."""
        header = {"descr": np.lib.format.dtype_to_descr(self._kept), "fortran_order": False}
        with replacing(whole) as partial:
            with partial.open("wb") as file:  # no memory map: on a full disk it would kill the process
                np.lib.format.write_array_header_1_0(file, header | {"shape": (count, self._width)})
                for number in range(math.ceil(count / PART)):
                    file.write(np.load(_part(parts, number)).astype(self._kept, copy=False).tobytes())
            seal(partial)
        shutil.rmtree(parts)


def seal(path: Path) -> None:
    """Appends a checksum to a .npy file, where NumPy does not look."""
    checksum = _crc32(path, path.stat().st_size)
    with path.open("ab") as file:
        file.write(_SEAL.pack(_MARK, checksum))


def is_intact(path: Path) -> bool:
    """Whether a .npy file is as it was sealed. A file of an earlier vitsmith, without a checksum, is trusted."""
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, dtype = read(file, max_header_size=LONGEST_HEADER)
            end = file.tell() + math.prod(shape) * dtype.itemsize
            file.seek(min(end, path.stat().st_size))
            rest = file.read(_SEAL.size + 1)
    except NPY_DAMAGE:
        return False
    if path.stat().st_size == end:
        return True
    return len(rest) == _SEAL.size and _SEAL.unpack(rest) == (_MARK, _crc32(path, end))


def _crc32(path: Path, size: int) -> int:
    """The CRC-32 of the first `size` bytes."""
    checksum = 0
    with path.open("rb") as file:
        while size > 0 and (piece := file.read(min(size, 1 << 20))):
            checksum, size = zlib.crc32(piece, checksum), size - len(piece)
    return checksum


def _part(parts: Path, number: int) -> Path:
    return parts / f"{number:06d}.npy"
