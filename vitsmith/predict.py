"""Images in, answers out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vitsmith.data.image_sources import ImageSource, several
from vitsmith.data.images import MAX_PIXELS
from vitsmith.data.unreadable import Unreadable
from vitsmith.engines.base import Engine, open_engine
from vitsmith.errors import ImageError, InputError
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Labels
from vitsmith.stream import Failure, ImageStream
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.checkpoints import load

Array = np.ndarray[Any, Any]


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
        """Name of the most probable class; 'crane (517)' where several classes have it."""
        return self._name(self.index)

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return float(self.probabilities.max())

    def best(self, count: int = 5) -> list[int]:
        """Numbers of the `count` most probable classes, best first."""
        order: list[int] = np.argsort(-self.probabilities, kind="stable")[:count].tolist()
        return order

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """The `count` most probable (label, probability), best first."""
        return [(self._name(index), float(self.probabilities[index])) for index in self.best(count)]

    def _name(self, index: int) -> str:
        return self.labels.shown[index] if self.labels else f"class {index}"


class Predictor:
    """Classifies images with a bundle: decodes ahead in threads while the engine works.

    Args:
        bundle: a bundle, or anything `vitsmith.load` takes.
        engine: 'auto', or a name: 'torch', 'torch-compiled', 'onnx', 'openvino', 'executorch'; or one that was opened
            for this bundle, with its own threads and precision.
        batch_size: images given to the engine at once; the last batch may be smaller.
        decoders: threads that read and preprocess; default one for each core.
        threads: cores the engine uses; default all.
        precision: 'auto', the program's own and of weights fp32; 'fp32', or 'bf16' for torch and openvino.
        max_pixels: larger images are refused before they are decoded.

    Raises InputError for a bundle without a classifier.
    """

    def __init__(
        self,
        bundle: Bundle | str | os.PathLike[str],
        engine: str | Engine = "auto",
        *,
        batch_size: int = 16,
        decoders: int | None = None,
        threads: int | None = None,
        precision: str = "auto",
        max_pixels: int = MAX_PIXELS,
    ) -> None:
        self.bundle = bundle if isinstance(bundle, Bundle) else load(bundle)
        if isinstance(self.bundle.config, LiTConfig):
            raise InputError(f"{self.bundle.where} matches images with words: use  vitsmith zeroshot  with labels")
        if not self.bundle.classes:
            raise InputError(f"{self.bundle.where} has no classifier, so it cannot name what it sees")
        if getattr(self.bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
            raise InputError(f"{self.bundle.where} gives logits for each patch, not one answer for an image")
        if threads is not None and threads < 1:
            raise InputError(f"threads must be at least 1, got {threads}")
        if isinstance(engine, str):
            engine = open_engine(self.bundle, engine, threads=threads, precision=precision)
        self.engine = engine
        self.images = ImageStream(
            self.bundle.images, self.engine, batch_size=batch_size, decoders=decoders, max_pixels=max_pixels
        )

    @property
    def where(self) -> str:
        """What messages call the model."""
        return self.bundle.where

    @property
    def labels(self) -> Labels | None:
        """Names of the classes, where the bundle has them."""
        return self.bundle.labels

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """Predictions in the order of `images` (one image gives a list of one). Raises ImageError at a bad one."""
        return list(whole(self.stream(several(images))))

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        """Results in order, as their batches are done. Reads `images` only a little ahead: it may be endless."""
        for answer in self.images.answers(images):
            if isinstance(answer, Failure):
                yield answer
            else:
                name, logits = answer
                yield Prediction(name, softmax(logits), self.bundle.labels)

    def logits(self, images: ImageSource | Iterable[ImageSource], unreadable: Unreadable | None = None) -> Array:
        """float32 (images, classes), in order. Raises ImageError at an unreadable one, unless `unreadable` notes it."""
        rows = self.images.rows(several(images), unreadable)
        return np.zeros((0, self.bundle.classes), np.float32) if rows is None else rows


def whole(results: Iterable[Prediction | Failure]) -> Iterator[Prediction]:
    """The same results; a Failure among them is raised as ImageError."""
    for result in results:
        if isinstance(result, Failure):
            raise ImageError(result.reason)
        yield result


def softmax(logits: Array) -> Array:
    """(..., classes) -> probabilities over the last axis."""
    with np.errstate(over="ignore"):  # two values further apart than the type holds: the lower becomes 0
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
