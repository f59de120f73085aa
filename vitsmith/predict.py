"""Images in, answers out."""

from __future__ import annotations

import itertools
import os
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.data.images import MAX_PIXELS, ImageSource
from vitsmith.data.preprocess import load_image
from vitsmith.engines.base import open_engine
from vitsmith.errors import ImageError, InputError
from vitsmith.specs import Labels
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.checkpoints import load

Array = np.ndarray[Any, Any]

DECODER_NICENESS = 10


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image."""

    source: str
    """Path of the image, or its number when it had none."""
    probabilities: Array = field(repr=False)
    """float32 (classes,), the softmax of the logits."""
    labels: Labels | None = field(repr=False, default=None)

    @property
    def index(self) -> int:
        """Number of the most probable class."""
        return int(self.probabilities.argmax())

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self._name(self.index)

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities.max())

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The `count` most probable (label, probability), best first."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self._name(int(index)), float(self.probabilities[index])) for index in order]

    def _name(self, index: int) -> str:
        return self.labels.names[index] if self.labels else f"class {index}"


@dataclass(frozen=True)
class Failure:
    """An image that could not be read."""

    source: str
    reason: str


class Predictor:
    """Classifies images with a bundle: decodes ahead in threads while the engine works.

    Args:
        bundle: a bundle, or anything `vitsmith.load` takes.
        engine: 'auto', 'torch' or 'onnx'.
        batch_size: images given to the engine at once; the last batch may be smaller.
        decoders: threads that read and preprocess; default one for each core.
        threads: cores the engine uses; default all.
        max_pixels: larger images are refused before they are decoded.

    Raises InputError for a bundle without a classifier.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        engine: str = "auto",
        *,
        batch_size: int = 16,
        decoders: int | None = None,
        threads: int | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load(bundle)
        if not self.bundle.classes:
            raise InputError(f"{self.bundle.where} has no classifier, so it cannot name what it sees")
        if getattr(self.bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
            raise InputError(f"{self.bundle.where} gives logits for each patch, not one answer for an image")
        for what, number in (("batch size", batch_size), ("decoders", decoders), ("threads", threads)):
            if number is not None and number < 1:
                raise InputError(f"{what} must be at least 1, got {number}")
        self.engine = open_engine(self.bundle, engine, threads=threads)
        self.batch_size = batch_size
        self.decoders = decoders or available_cores()
        self.max_pixels = max_pixels

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """Predictions in the order of `images` (one image gives a list of one). Raises ImageError at a bad one."""
        predictions = []
        for result in self.stream(_several(images)):
            if isinstance(result, Failure):
                raise ImageError(result.reason)
            predictions.append(result)
        return predictions

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        """Results in order, as their batches are done. Reads `images` only a little ahead: it may be endless."""
        with self._decoder_pool() as pool:
            ahead = self._decode_ahead(pool, enumerate(images))
            try:
                while batch := list(itertools.islice(ahead, self.batch_size)):
                    yield from self._answer(batch)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def logits(self, images: Iterable[ImageSource]) -> Array:
        """float32 (images, classes), in order. Raises ImageError at an unreadable one."""
        rows: list[Array] = []
        with self._decoder_pool() as pool:
            ahead = self._decode_ahead(pool, enumerate(images))
            while batch := list(itertools.islice(ahead, self.batch_size)):
                failed = next((reason for _, reason in batch if isinstance(reason, str)), None)
                if failed:
                    raise ImageError(failed)
                rows.append(self.engine.run(np.stack([tensor for _, tensor in batch])))
        return np.concatenate(rows) if rows else np.zeros((0, self.bundle.classes), np.float32)

    def _decoder_pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.decoders, thread_name_prefix="decode", initializer=_yield_to_engine)

    def _decode_ahead(
        self, pool: ThreadPoolExecutor, images: Iterator[tuple[int, ImageSource]]
    ) -> Iterator[tuple[str, Array | str]]:
        """(name, tensor or reason) in order, with two batches under way so that the engine never waits for one."""
        waiting: deque[Future[tuple[str, Array | str]]] = deque()
        depth = 2 * self.batch_size + self.decoders
        while True:
            while len(waiting) < depth and (image := next(images, None)) is not None:
                waiting.append(pool.submit(self._decode, *image))
            if not waiting:
                return
            yield waiting.popleft().result()

    def _decode(self, number: int, source: ImageSource) -> tuple[str, Array | str]:
        path = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
        name = path or f"image {number}"
        try:
            return name, load_image(source, self.bundle.images, max_pixels=self.max_pixels)
        except ImageError as error:
            return name, str(error) if path else f"{name}: {error}"

    def _answer(self, batch: list[tuple[str, Array | str]]) -> Iterator[Prediction | Failure]:
        tensors = [tensor for _, tensor in batch if not isinstance(tensor, str)]
        rows: Iterator[Array] = iter(softmax(self.engine.run(np.stack(tensors))) if tensors else ())
        for name, tensor in batch:
            if isinstance(tensor, str):
                yield Failure(name, tensor)
            else:
                yield Prediction(name, next(rows), self.bundle.labels)


def _yield_to_engine() -> None:
    """Lets the calling thread work only on what the engine's threads leave of the cores.

    An engine splits each layer over its threads and waits for the last of them; a decoder that holds up one holds up
    all. On 2 cores this took the time over decoding plus inference from 1.14 to 1.03 with eager torch
    (benchmarks/folder_prediction.py).
    """
    if sys.platform == "linux":  # elsewhere niceness belongs to the whole process
        thread = threading.get_native_id()
        with suppress(OSError):  # where it is forbidden, predictions are only slower
            niceness = os.getpriority(os.PRIO_PROCESS, thread)
            os.setpriority(os.PRIO_PROCESS, thread, max(niceness, DECODER_NICENESS))


def softmax(logits: Array) -> Array:
    """(..., classes) -> probabilities over the last axis."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _several(images: Any) -> Iterable[ImageSource]:
    """One image as a list of one; an array of four axes is already several."""
    single = isinstance(images, str | Path | os.PathLike | bytes) or hasattr(images, "getexif")
    if isinstance(images, np.ndarray):
        single = images.ndim < 4
    return [images] if single else images
