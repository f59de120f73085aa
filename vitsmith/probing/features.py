"""One pass over labelled images: the features of each, computed or from the cache, and what identifies its content.

N images, D features. The bytes that are hashed are those that are decoded, so an image that is replaced during the pass
cannot get the features of another.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.arguments import Tell
from vitsmith.arrays import Array
from vitsmith.data.images.sources import ImageSource, is_encoded, name_source, read_bytes
from vitsmith.data.images.tensors import array_from_tensor, is_tensor
from vitsmith.data.images.unreadable import OPTION, SHARE, Unreadable
from vitsmith.data.sets.samples import Samples
from vitsmith.data.sets.split_record import Digests, digest_of
from vitsmith.engines.protocol import Engine
from vitsmith.errors import DatasetError, ImageError, NotFiniteError
from vitsmith.machine import available_cores
from vitsmith.probing.backbone import LazyEngine
from vitsmith.probing.feature_cache import FeatureCache
from vitsmith.specs import ImageSpec
from vitsmith.stream import Failure, ImageStream

_AHEAD = 4  # images that wait for each reading thread
_MOST_THREADS = 16


@dataclass(frozen=True, eq=False)
class FrozenFeatures:
    """The features of the readable images of a data set, in its order."""

    values: Tensor
    """float32 (N, D), as the model gives them: not divided by their length."""
    labels: Tensor
    """int64 (N,), positions among the classes."""
    indices: NDArray[np.int64]
    """(N,) positions among the samples."""
    contents: tuple[bytes, ...]
    """SHA-256 of each image's content."""
    digests: Digests
    """(N,) digests for the split record, keyed with its salt."""
    cached: int
    """How many of them were in the cache."""
    seconds: float

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class PassOptions:
    """How the images of a pass are read."""

    salt: bytes
    """Key of the digests for the split record."""
    batch_size: int = 32
    skip_unreadable: float = SHARE
    """Share of images that may be unreadable: they are reported and left out."""
    tell: Tell = lambda _: None
    on_image: Callable[[], None] = lambda: None


def extract(
    samples: Samples, spec: ImageSpec, engine: LazyEngine, reading: PassOptions, cache: FeatureCache | None = None
) -> FrozenFeatures:
    """The features of all readable images, those that `cache` lacks through `engine`. They are added to the cache.

    `engine` is opened only if an image needs it; whatever ends the pass, what was computed is kept. Raises
    DatasetError for more unreadable images than allowed, NotFiniteError, which names the image, for features that are
    not finite, and what opening the engine raises.
    """
    began = time.perf_counter()
    found = _Pass(samples, reading, cache)
    stream = ImageStream(spec, cast(Engine, engine), batch_size=reading.batch_size)
    try:
        with closing(found.missing()) as missing, closing(stream.answers(missing)) as answers:
            for answer in answers:
                found.take(answer)
    finally:
        if cache is not None:
            cache.write()
    return found.features(time.perf_counter() - began)


class _Content(NamedTuple):
    """One image, read once."""

    key: bytes
    digest: np.uint64
    source: ImageSource


class _Pass:
    """The state of one pass."""

    def __init__(self, samples: Samples, reading: PassOptions, cache: FeatureCache | None) -> None:
        self._samples, self._reading, self._cache = samples, reading, cache
        self._unreadable = Unreadable(
            samples.names, reading.skip_unreadable, lambda complaint: reading.tell(f"left out: {complaint}"), OPTION
        )
        self._rows: dict[int, Array] = {}
        self._read: dict[int, _Content] = {}
        self._waiting: deque[int] = deque()
        self._cached = 0

    def missing(self) -> Generator[ImageSource]:
        """The images without features, in order, each as it was hashed."""
        with closing(_read_ahead(self._samples, self._reading.salt)) as contents:
            for index, content in enumerate(contents):
                if isinstance(content, str):
                    self._leave_out(index, content)
                    self._reading.on_image()
                    continue
                self._read[index] = content._replace(source=b"")  # only its digests are needed later
                row = self._cache.get(content.key) if self._cache is not None else None
                if row is not None:
                    self._rows[index] = row
                    self._cached += 1
                    self._reading.on_image()
                    continue
                self._waiting.append(index)
                yield content.source

    def take(self, answer: tuple[str, Array] | Failure) -> None:
        """The answer for the image that waits longest."""
        index = self._waiting.popleft()
        self._reading.on_image()
        if not isinstance(answer, Failure):
            self._rows[index] = answer[1]
            if self._cache is not None:
                self._cache.add(self._read[index].key, answer[1])
            return
        if not answer.unread:
            raise NotFiniteError(answer.named(self._samples.names[index]).reason)
        self._leave_out(index, answer.complaint)

    def _leave_out(self, index: int, complaint: str) -> None:
        """Reports an unreadable image. Raises DatasetError where these are too many, which tells of others too."""
        try:
            self._unreadable.add(index, complaint)
        except DatasetError:
            raise DatasetError(self._unreadable.told_with_others(self._samples.sources, index)) from None

    def features(self, seconds: float) -> FrozenFeatures:
        """What was found."""
        indices = sorted(self._rows)
        rows = [self._rows[index] for index in indices]
        kept = [self._read[index] for index in indices]
        return FrozenFeatures(
            values=torch.from_numpy(np.stack(rows).astype(np.float32, copy=False)) if rows else torch.empty(0, 0),
            labels=torch.from_numpy(self._samples.labels[indices].astype(np.int64)),
            indices=np.array(indices, np.int64),
            contents=tuple(one.key for one in kept),
            digests=np.array([one.digest for one in kept], np.uint64),
            cached=self._cached,
            seconds=seconds,
        )


def content_key(source: ImageSource) -> bytes:
    """SHA-256 of an image's content: the bytes of its file, or its pixels where there is no file."""
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    pixels = np.ascontiguousarray(array_from_tensor(source) if is_tensor(source) else np.asarray(source))
    digest = hashlib.sha256(f"pixels {pixels.dtype.str} {pixels.shape} ".encode())
    digest.update(pixels.data)
    return digest.digest()


def _read_ahead(samples: Samples, salt: bytes) -> Generator[_Content | str]:
    """The content of each image in order, or why it cannot be read; a few are read ahead, in threads."""

    def read(index: int) -> _Content | str:
        source: Any = samples.names[index]
        try:
            source = samples.sources[index]
            held = read_bytes(source) if is_encoded(source) else source
            return _Content(content_key(held), digest_of(held, salt), held)
        except ImageError as error:
            return f"{name_source(source)}: {error}"

    threads = min(available_cores(), _MOST_THREADS)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vitsmith-contents")
    waiting: deque[Future[_Content | str]] = deque()
    indices = iter(range(len(samples)))
    try:
        waiting.extend(pool.submit(read, index) for index in itertools.islice(indices, _AHEAD * threads))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(read, index) for index in itertools.islice(indices, 1))
    finally:
        pool.shutdown(cancel_futures=True)
