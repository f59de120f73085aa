"""Images in, answers out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from vitsmith.arguments import whole_number
from vitsmith.data.image_sources import ImageSource, several
from vitsmith.data.images import MAX_PIXELS
from vitsmith.data.unreadable import Unreadable
from vitsmith.engines.base import Engine, open_program
from vitsmith.errors import InputError
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Calibration, Head, Labels, Meaning
from vitsmith.stream import Failure, ImageStream, check_reading
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.load import load

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Prediction:
    """What the model says about one image."""

    source: str
    """Path of the image, or its number when it had none."""
    scores: Array = field(repr=False)
    """float32 (classes,); `meaning` says what they are."""
    labels: Labels | None = field(repr=False, default=None)
    meaning: Meaning = "probability"
    """'probability'; 'cosine' with the words of a label; or 'value', of a regression."""
    independent: bool = False
    """Whether each class is scored by itself: probabilities do not add up to 1, and several classes may be there."""
    ranked_by: Array | None = field(repr=False, default=None)
    """(classes,) logits, or cosines with the words of labels, which order the classes: many probabilities round to 1.
    None: the scores do."""
    thresholds: tuple[float, ...] = field(repr=False, default=())
    """Of a sigmoid head with a calibration: the probability from which on each class is there. (): 0.5 for all."""

    @property
    def present(self) -> list[str]:
        """Of a sigmoid head: names of the classes that are there, whose probabilities reach their thresholds (0.5 where
        the bundle has none), the most probable first. Raises InputError for other heads."""
        if not self.independent or self.meaning != "probability":
            raise InputError(
                f"{self.source}: only models that score each class by itself (sigmoid) say which classes are present"
            )
        least = np.asarray(self.thresholds or 0.5)
        there = np.broadcast_to(self.scores >= least, self.scores.shape)
        return [self._name(index) for index in self.best(len(self.scores)) if there[index]]

    @property
    def probabilities(self) -> Array:
        """float32 (classes,): the scores, where they are probabilities. Raises InputError for cosines and values."""
        if self.meaning != "probability":
            what = {"cosine": "cosines of an image and words", "value": "values of a regression"}[self.meaning]
            raise InputError(f"{self.source}: its scores are {what} and no probabilities: use .scores or .top()")
        return self.scores

    @property
    def probability(self) -> float:
        """Probability of the most probable class. Raises InputError where scores are no probabilities."""
        return float(self.probabilities.max())

    @property
    def index(self) -> int:
        """Number of the class with the highest score. Raises InputError for values, of which none is the answer."""
        if self.meaning == "value":
            raise InputError(f"{self.source}: the model gives values and names no class: use .scores or .top()")
        return int(self._ranks.argmax())

    @property
    def label(self) -> str:
        """Name of the class with the highest score; 'crane (517)' where several classes have it."""
        return self._name(self.index)

    @property
    def score(self) -> float:
        """The highest score. Raises InputError for values."""
        return float(self.scores[self.index])

    def best(self, count: int = 5) -> list[int]:
        """Numbers of the `count` classes with the highest scores, best first; of values all, in their order."""
        if self.meaning == "value":
            return list(range(len(self.scores)))
        count = whole_number(count, "count", least=0)
        order: list[int] = np.argsort(-self._ranks, kind="stable")[:count].tolist()
        return order

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """(label, score) of the `count` classes with the highest scores, best first; of values all, in their order."""
        return [(self._name(index), float(self.scores[index])) for index in self.best(count)]

    @property
    def _ranks(self) -> Array:
        return self.scores if self.ranked_by is None else self.ranked_by

    def __str__(self) -> str:
        answers = ", ".join(f"{label} {show_score(score, self.meaning)}" for label, score in self.top(1))
        return f"{self.source}: {answers}{' (cosine)' if self.meaning == 'cosine' else ''}"

    def __repr__(self) -> str:
        return f"<Prediction {self}>"

    def _name(self, index: int) -> str:
        if self.labels:
            return self.labels.shown[index]
        return f"value {index}" if self.meaning == "value" else f"class {index}"


def show_score(score: float, meaning: Meaning) -> str:
    """'97.1%', '0.312' for a cosine, '31.2' for a value."""
    return {"probability": f"{score:.1%}", "cosine": f"{score:.3f}", "value": f"{score:.6g}"}[meaning]


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
        num_images: how many are to come, where that is known: for many 'auto' measures the engines.

    What the outputs mean is the bundle's `head`: softmax gives probabilities that add up to 1, sigmoid one for each
    class by itself, and a regression values. The bundle's calibration is applied. Raises InputError for a bundle
    without a classifier.
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
        num_images: int | None = None,
    ) -> None:
        check_reading(batch_size, decoders, max_pixels)
        self.bundle = load(bundle)
        if isinstance(self.bundle.config, LiTConfig):
            raise InputError(
                f"{self.bundle.where} matches images with words: use  vitsmith zeroshot  "
                "with labels, or  vitsmith evaluate --zeroshot  on labelled images"
            )
        if not self.bundle.classes:
            raise InputError(f"{self.bundle.where} has no classifier, so it cannot name what it sees")
        if getattr(self.bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
            raise InputError(f"{self.bundle.where} gives logits for each patch, not one answer for an image")
        if self.bundle.classes == 1 and self.bundle.head == "softmax":
            raise InputError(
                f"{self.bundle.where} has one class, and softmax gives it a probability of 1 for every image: if its "
                "head is a sigmoid or a regression, say so, with dataclasses.replace(bundle, head='sigmoid')"
            )
        opened = None if isinstance(engine, str) or not hasattr(engine, "run") else engine
        if opened is None:
            self.bundle, opened = open_program(
                self.bundle, cast(str, engine), threads=threads, precision=precision, num_images=num_images
            )
        self.engine = opened
        self.image_stream = ImageStream(
            self.bundle.preprocessing, self.engine, batch_size=batch_size, decoders=decoders, max_pixels=max_pixels
        )

    def __repr__(self) -> str:
        return f"<Predictor {self.bundle!r}, {self.engine.name} in {self.engine.precision}>"

    @property
    def where(self) -> str:
        """What messages call the model."""
        return self.bundle.where

    @property
    def labels(self) -> Labels | None:
        """Names of the classes, where the bundle has them."""
        return self.bundle.labels

    @property
    def head(self) -> Head:
        """What the outputs mean."""
        return self.bundle.head

    @property
    def score_meaning(self) -> Meaning:
        """What the scores of predictions are: 'probability' or 'value'."""
        return "value" if self.head == "regression" else "probability"

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """Predictions in the order of `images` (one image gives a list of one). Raises as `logits` does."""
        return list(whole(self.stream(several(images))))

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        """Results in order, as their batches are done. Reads `images` only a little ahead: it may be endless."""
        for answer in self.image_stream.answers(images):
            if isinstance(answer, Failure):
                yield answer
            else:
                name, logits = answer[0], answer[1] / np.float32(self._calibration.temperature)
                scores, independent = scores_from_logits(logits, self.head), self.head == "sigmoid"
                meaning = self.score_meaning
                yield Prediction(
                    name,
                    scores,
                    self.labels,
                    meaning,
                    independent=independent,
                    ranked_by=logits,
                    thresholds=self._calibration.thresholds,
                )

    def logits(self, images: ImageSource | Iterable[ImageSource], unreadable: Unreadable | None = None) -> Array:
        """float32 (images, classes), in order, divided by the temperature of the bundle's calibration.

        Raises ImageError at an unreadable one, unless `unreadable` notes it, and NotFiniteError at one whose outputs
        are NaN or infinite.
        """
        rows = self.image_stream.rows(several(images), unreadable)
        if rows is None:
            return np.zeros((0, self.bundle.classes), np.float32)
        return rows / np.float32(self._calibration.temperature)

    @property
    def _calibration(self) -> Calibration:
        return self.bundle.calibration or Calibration()


def whole(results: Iterable[Prediction | Failure]) -> Iterator[Prediction]:
    """The same results; a Failure among them is raised as its `error`."""
    for result in results:
        if isinstance(result, Failure):
            raise result.error
        yield result


def scores_from_logits(logits: Array, head: Head) -> Array:
    """(..., classes) outputs -> probabilities, or for a regression the values as they are."""
    return logits if head == "regression" else sigmoid(logits) if head == "sigmoid" else softmax(logits)


def sigmoid(logits: Array) -> Array:
    """Logits -> probabilities, each by itself."""
    with np.errstate(over="ignore"):  # exp of a large number is infinite, and the probability 0
        probabilities: Array = 1 / (1 + np.exp(-logits))
    return probabilities


def softmax(logits: Array) -> Array:
    """(..., classes) -> probabilities over the last axis."""
    with np.errstate(over="ignore"):  # two values further apart than the type holds: the lower becomes 0
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
