"""The record of a model's training and held-out images, so that it is never evaluated on images that it was trained on.

An image is identified by its content, not by its name: data sets are renamed, moved and sorted again. The record keeps
8 bytes of it: a digest of the file's bytes, or of the pixels where there is no file, keyed with the record's salt. A
copy that was saved again, resized or rotated has other bytes and counts as another image.

The salt is stored beside the digests. Nobody can restore an image from them, but whoever has the same file can tell
whether it is in the record.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.images.sources import ImageSource, is_encoded, read_bytes
from vitsmith.data.images.tensors import array_from_tensor, is_tensor
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import BundleError, ImageError
from vitsmith.files.regular import read_regular
from vitsmith.machine import available_cores

Digests = NDArray[np.uint64]

SPLIT = "split.safetensors"
"""The file in a bundle's folder. bundle.json does not list it: a bundle without it is still valid."""

_FORMAT = b"vitsmith split record 1"
_SALT_BYTES = 16
_LARGEST = 1 << 33  # bytes; enough for a billion images
_CHUNK = 16  # images that a thread takes at once: few, so that Ctrl-C is answered at once
_AHEAD = 4  # waiting chunks for each thread
_MOST_THREADS = 16


def _none() -> Digests:
    return np.empty(0, np.uint64)


@dataclass(frozen=True, eq=False)
class SplitRecord:
    """Digests of a model's images; each array is sorted and without duplicates."""

    salt: bytes
    train: Digests
    """Images that the model was trained on."""
    held_out: Digests
    """Images that it was evaluated on during training, and not trained on."""
    test: Digests
    """Images for the final evaluation, where the data set had some beside `held_out`."""
    earlier: Digests
    """Images that the model it began from was trained on."""
    complete: bool = True
    """False when it began from a trained model without such a record."""

    @classmethod
    def empty(cls, salt: bytes = b"", *, complete: bool = True) -> Self:
        """A record without images; its salt is new unless one is given."""
        return cls(salt or secrets.token_bytes(_SALT_BYTES), _none(), _none(), _none(), _none(), complete)

    def adding(self, *, train: Digests, held_out: Digests) -> Self:
        """The record after more training: the model was trained on `train` too, and evaluated on `held_out`.

        Images that it was trained on are never held out, in this training or an earlier one.
        """
        learned = np.union1d(self.train, train)
        kept = np.setdiff1d(self.held_out, train)
        evaluated = np.setdiff1d(held_out, np.union1d(np.union1d(learned, self.earlier), self.test))
        return replace(self, train=learned, held_out=np.union1d(kept, evaluated), test=np.setdiff1d(self.test, train))

    def as_parent(self) -> Self:
        """The first record of a model that is trained from this one: all training images so far become `earlier`."""
        return replace(self.empty(self.salt, complete=self.complete), earlier=np.union1d(self.train, self.earlier))

    def leaks(self, before_it: str) -> list[str]:
        """Why scores on its held-out and test images are too good, in sentences; `before_it` is what it began from."""
        told = []
        for digests, what in ((self.held_out, "held-out"), (self.test, "test")):
            if twice := len(np.intersect1d(digests, self.train)):
                told.append(
                    f"{twice:,} of the {len(digests):,} {what} images are training images too, the same files under "
                    f"other names: the {what} score is too good; remove the copies"
                )
            told += leak(digests, self.earlier, what, before_it)
        return told

    def __str__(self) -> str:
        told = f"{len(self.train):,} trained on, {len(self.held_out):,} held out"
        if len(self.test):
            told += f", {len(self.test):,} for the test"
        if len(self.earlier):
            told += f"; {len(self.earlier):,} trained on by the model it began from"
        return told if self.complete else f"{told}; the model it began from does not say what it was trained on"


class Contents(NamedTuple):
    """Digests of the contents of images, in the order of the samples."""

    digests: Digests
    readable: NDArray[np.bool_]
    """False where the bytes could not be read; the digest has no meaning there."""

    def at(self, indices: NDArray[np.intp]) -> Contents:
        """The contents of the samples at `indices`."""
        return Contents(self.digests[indices], self.readable[indices])


def read_contents(
    samples: Samples,
    salt: bytes,
    *,
    part: int = 0,
    parts: int = 1,
    on_images: Callable[[int], None] = lambda _: None,
) -> Contents:
    """Digests of all samples, or of slice number `part` of `parts`. Files are read once, in threads, and not decoded.

    `on_images` is called with the number of images done since its last call.
    """
    first, end = part * len(samples) // parts, (part + 1) * len(samples) // parts
    digests, readable = np.zeros(end - first, np.uint64), np.zeros(end - first, np.bool_)
    stop = threading.Event()

    def fill(begin: int) -> int:
        chunk = range(begin, min(begin + _CHUNK, end))
        for index in chunk:
            if stop.is_set():
                break
            try:
                digests[index - first] = digest_of(samples.sources[index], salt)
                readable[index - first] = True
            except ImageError:  # reported when it is decoded
                continue
        return len(chunk)

    threads = min(available_cores(), _MOST_THREADS)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vitsmith-contents")
    chunks, waiting = iter(range(first, end, _CHUNK)), deque[Future[int]]()
    try:
        waiting.extend(pool.submit(fill, begin) for begin in itertools.islice(chunks, _AHEAD * threads))
        while waiting:
            on_images(waiting.popleft().result())
            waiting.extend(pool.submit(fill, begin) for begin in itertools.islice(chunks, 1))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
    return Contents(digests, readable)


def digest_of(source: ImageSource, salt: bytes) -> np.uint64:
    """The digest of one image. Raises ImageError for a file that cannot be read."""
    if is_encoded(source):
        digest = hashlib.blake2b(read_bytes(source), digest_size=8, key=salt, person=b"file")
    else:
        pixels = np.ascontiguousarray(array_from_tensor(source) if is_tensor(source) else source)
        digest = hashlib.blake2b(digest_size=8, key=salt, person=b"pixels")
        digest.update(f"{pixels.dtype.str} {pixels.shape} ".encode())
        digest.update(pixels.data)
    return np.uint64(int.from_bytes(digest.digest(), "little"))


def distinct(contents: Contents) -> Digests:
    """The digests of the readable images, sorted, each once."""
    return np.unique(contents.digests[contents.readable])


def leak(digests: Digests, known: Digests, what: str, whose: str) -> list[str]:
    """A sentence on the images of `digests` that are among the training images `known` of `whose`; [] for none."""
    before = len(np.intersect1d(digests, known))
    if not before:
        return []
    return [
        f"{before:,} of the {len(digests):,} {what} images are among those that {whose} was trained on: the {what} "
        "score is too good; hold out the images that it held out, or new ones"
    ]


def write_split(record: SplitRecord, path: Path) -> None:
    """Write a record with its own checksum. Raises OSError."""
    from safetensors.numpy import save

    arrays = _arrays(record)
    path.write_bytes(save({**arrays, "checksum": np.frombuffer(_checksum(arrays), np.uint8)}))


def read_split(path: Path) -> SplitRecord:
    """Read a record that `write_split` wrote. Raises BundleError for anything else, FileNotFoundError for no file."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(read_regular(path, largest=_LARGEST))
        checksum = arrays.pop("checksum").tobytes()
        if checksum != _checksum(arrays):
            raise ValueError("its checksum differs")
        salt = arrays["salt"].tobytes()
        parts = [arrays[name] for name in ("train", "held_out", "test", "earlier")]
        if any(one.dtype != np.uint64 or one.ndim != 1 for one in parts) or len(salt) != _SALT_BYTES:
            raise ValueError("its arrays are of another kind")
        train, held_out, test, earlier = parts
        return SplitRecord(salt, train, held_out, test, earlier, complete=bool(arrays["complete"][0]))
    except FileNotFoundError:
        raise
    except (SafetensorError, KeyError, IndexError, OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        if isinstance(error, KeyError):
            reason = f"it has no array {error}"
        raise BundleError(
            f"{path} is damaged ({reason}): copy it again, or delete it: the model works without it, but vitsmith then "
            "cannot tell which images it was trained on"
        ) from None


def _arrays(record: SplitRecord) -> dict[str, NDArray[np.generic]]:
    return {
        "salt": np.frombuffer(record.salt, np.uint8),
        "train": record.train,
        "held_out": record.held_out,
        "test": record.test,
        "earlier": record.earlier,
        "complete": np.array([record.complete], np.uint8),
    }


def _checksum(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """A checksum of the names, types and values of the arrays; the same on every machine."""
    digest = hashlib.sha256(_FORMAT)
    for name in sorted(arrays):
        array = arrays[name]
        little = array.astype(array.dtype.newbyteorder("<"))
        digest.update(f" {name} {little.dtype.str} {little.shape} ".encode())
        digest.update(little.tobytes())
    return digest.digest()
