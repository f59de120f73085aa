"""Run images through an engine; they are read and preprocessed ahead in threads while the engine works."""

from __future__ import annotations

import itertools
import os
import re
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from vitsmith.arguments import MOST_AT_ONCE, MOST_THREADS, whole_number
from vitsmith.arrays import Array
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.images.read import MAX_PIXELS
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.data.images.unreadable import ANONYMOUS, Unreadable
from vitsmith.engines.protocol import Engine
from vitsmith.errors import NOT_FINITE, ImageError, NotFiniteError, bare
from vitsmith.machine import available_cores
from vitsmith.process.forks import require_own_process
from vitsmith.specs import ImageSpec

DECODER_NICENESS = 10
_NUMBERED = re.compile(r"image \d+")


@dataclass(frozen=True)
class Failure:
    """An image that could not be read, or for which the model gave no usable answer."""

    source: str
    reason: str
    unread: bool = True
    """False when the image was read but the model's output is not finite."""

    @property
    def error(self) -> ImageError | NotFiniteError:
        """The error to raise: ImageError for a fault of the image, NotFiniteError for a fault of the model."""
        return ImageError(self.reason) if self.unread else NotFiniteError(self.reason)

    @property
    def complaint(self) -> str:
        """The reason as `Unreadable` takes it: an image that has only a number in this stream is 'image'."""
        if not _NUMBERED.fullmatch(self.source):
            return self.reason
        return self.named("image").reason

    def named(self, name: str) -> Failure:
        """The same under the name of its image, which has only a number in this stream."""
        return replace(self, source=name, reason=f"{name}: {bare(self.source, self.reason)}")


class ImageStream:
    """Read images a little ahead of an engine and yield its answers in order.

    Args:
        spec: the preprocessing of pixels.
        engine: gives the answers, one row for each image.
        batch_size: images given to the engine at once; the last batch may be smaller.
        decoders: threads that read and preprocess; by default one for each core.
        max_pixels: larger images are refused before they are decoded.
    """

    def __init__(
        self,
        spec: ImageSpec,
        engine: Engine,
        *,
        batch_size: int,
        decoders: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        check_reading(batch_size, decoders, max_pixels)
        self._spec, self._engine = spec, engine
        self.batch_size = batch_size
        self.decoders = decoders or available_cores()
        self.max_pixels = max_pixels

    def answers(self, images: Iterable[ImageSource]) -> Generator[tuple[str, Array] | Failure]:
        """Yield (name, row) or Failure for each image, in order, as batches are done; `images` may be endless."""
        for batch in self._batches(images):
            tensors = [tensor for _, tensor in batch if not isinstance(tensor, str)]
            rows = iter(self._run(tensors))
            for name, tensor in batch:
                row = tensor if isinstance(tensor, str) else next(rows)
                if row is None:
                    row = f"{name}: the model's output for it is {NOT_FINITE}; use fp32, or another checkpoint"
                yield Failure(name, row, isinstance(tensor, str)) if isinstance(row, str) else (name, row)

    def rows(self, images: Iterable[ImageSource], unreadable: Unreadable | None = None) -> Array | None:
        """All answers as one array, in order; None for no images.

        Raises ImageError at an image that cannot be read, and NotFiniteError at one whose output is not finite, a fault
        of the model. With `unreadable`, unreadable images are recorded there instead and have no row.
        """
        return self.named_rows(images, unreadable)[1]

    def named_rows(
        self, images: Iterable[ImageSource], unreadable: Unreadable | None = None
    ) -> tuple[list[str], Array | None]:
        """The names of the images of `rows`, and the rows; errors as there."""
        found: list[tuple[str, Array]] = []
        for number, answer in enumerate(self.answers(images)):
            if not isinstance(answer, Failure):
                found.append(answer)
            elif unreadable is None or not answer.unread:
                raise answer.error
            else:
                unreadable.add(number, answer.complaint)
        return [name for name, _ in found], np.stack([row for _, row in found]) if found else None

    def _run(self, tensors: Sequence[Array]) -> Sequence[Array | None]:
        """The answer for each image; None where it is not finite, without loss of the others."""
        if not tensors:
            return ()
        try:
            return list(self._engine.run(np.stack(tensors)))
        except NotFiniteError:
            if len(tensors) == 1:
                return (None,)
        return [row for tensor in tensors for row in self._run([tensor])]

    def _batches(self, images: Iterable[ImageSource]) -> Iterator[list[tuple[str, Array | str]]]:
        with ThreadPoolExecutor(self.decoders, thread_name_prefix="decode", initializer=_yield_to_engine) as pool:
            ahead = self._decode_ahead(pool, enumerate(several(images)))
            try:
                while batch := list(itertools.islice(ahead, self.batch_size)):
                    yield batch
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _decode_ahead(
        self, pool: ThreadPoolExecutor, images: Iterator[tuple[int, ImageSource]]
    ) -> Iterator[tuple[str, Array | str]]:
        """Yield (name, tensor or reason) in order; two batches are read ahead so that the engine does not wait."""
        waiting: deque[Future[tuple[str, Array | str]]] = deque()
        process = os.getpid()
        depth = 2 * self.batch_size + self.decoders
        while True:
            require_own_process(process, "the stream of images")
            while len(waiting) < depth and (image := next(images, None)) is not None:
                waiting.append(pool.submit(self._decode, *image))
            if not waiting:
                return
            yield waiting.popleft().result()

    def _decode(self, number: int, source: ImageSource) -> tuple[str, Array | str]:
        path = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
        name = path or f"image {number}"
        try:
            return name, load_image(source, self._spec, max_pixels=self.max_pixels)
        except ImageError as error:
            told = str(error)
            what, _, reason = told.partition(": ")
            return name, told if path else f"{name}: {reason if what in ANONYMOUS else told}"


def check_reading(batch_size: int, decoders: int | None, max_pixels: int) -> None:
    """Raise InputError for numbers that an ImageStream does not accept."""
    whole_number(batch_size, "batch_size", most=MOST_AT_ONCE)
    whole_number(max_pixels, "max_pixels")
    if decoders is not None:
        whole_number(decoders, "decoders", most=MOST_THREADS)


def _yield_to_engine() -> None:
    """Lower the priority of the calling thread, so that the engine's threads get the cores first.

    An engine splits each layer over its threads and waits for the last one, so a decoder that delays one thread delays
    all. On 2 cores this took the time over decoding plus inference from 1.14 to 1.03 with eager torch
    (benchmarks/folder_prediction.py).
    """
    if sys.platform == "linux":  # on other systems niceness is that of the whole process
        thread = threading.get_native_id()
        with suppress(OSError):  # if it is forbidden, predictions are only slower
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, max(niceness, DECODER_NICENESS))
