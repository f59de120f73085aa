"""Classify images with a bundle."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from vitsmith.arguments import named_arguments, whole_number
from vitsmith.arrays import Array
from vitsmith.data.images.read import MAX_PIXELS
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.data.images.unreadable import Unreadable
from vitsmith.engines.open import open_program
from vitsmith.engines.protocol import Engine
from vitsmith.errors import InputError
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Calibration, Head, Labels, Meaning
from vitsmith.stream import Failure, ImageStream, check_reading
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import load


@dataclass(frozen=True)
class Prediction:
    """The answer of the model for one image."""

    source: str
    """Path of the image, or its number when it has none."""
    scores: Array = field(repr=False)
    """float32 (classes,): probabilities, cosines or values, see `meaning`."""
    labels: Labels | None = field(repr=False, default=None)
    meaning: Meaning = "probability"
    """'probability'; 'cosine', of the image and the words of a label; or 'value', of a regression."""
    independent: bool = False
    """Whether each class is scored by itself: probabilities do not add up to 1, and several classes may be present."""
    ranked_by: Array | None = field(repr=False, default=None)
    """(classes,): logits or cosines, which order the classes, as probabilities may round to 1. None: use the scores."""
    thresholds: tuple[float, ...] = field(repr=False, default=())
    """Calibrated sigmoid head only: the least probability with which each class counts as present. (): 0.5 for all."""

    @property
    def present(self) -> list[str]:
        """Sigmoid head only: names of the classes that are present, the most probable first.

        A class is present when its probability reaches its threshold (0.5 where the bundle has none). Raises InputError
        for other heads.
        """
        if not self.independent or self.meaning != "probability":
            raise InputError(
                f"{self.source}: only models that score each class by itself (sigmoid) tell which classes are present"
            )
        least = np.asarray(self.thresholds or 0.5)
        there = np.broadcast_to(self.scores >= least, self.scores.shape)
        return [self._name(index) for index in self.best(len(self.scores)) if there[index]]

    @property
    def probabilities(self) -> Array:
        """float32 (classes,): the scores when they are probabilities. Raises InputError for cosines and values."""
        if self.meaning != "probability":
            what = {"cosine": "cosines of an image and words", "value": "values of a regression"}[self.meaning]
            raise InputError(f"{self.source}: its scores are {what}, not probabilities: use .scores or .top()")
        return self.scores

    @property
    def probability(self) -> float:
        """Probability of the most probable class. Raises InputError when the scores are not probabilities."""
        return float(self.probabilities.max())

    @property
    def index(self) -> int:
        """Number of the class with the highest score. Raises InputError for values, which do not name a class."""
        if self.meaning == "value":
            raise InputError(f"{self.source}: the model gives values and does not name a class: use .scores or .top()")
        return int(self._ranks.argmax())

    @property
    def label(self) -> str:
        """Name of the class with the highest score; 'crane (517)' when several classes have this name."""
        return self._name(self.index)

    @property
    def score(self) -> float:
        """The highest score. Raises InputError for values."""
        return float(self.scores[self.index])

    def best(self, count: int = 5) -> list[int]:
        """Numbers of the `count` classes with the highest scores, best first; all in their order for values."""
        if self.meaning == "value":
            return list(range(len(self.scores)))
        count = whole_number(count, "count", least=0)
        order: list[int] = np.argsort(-self._ranks, kind="stable")[:count].tolist()
        return order

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """(label, score) of the `count` classes with the highest scores, best first; all in their order for values."""
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
    return {"probability": show_probability(score), "cosine": f"{score:.3f}", "value": f"{score:.6g}"}[meaning]


def show_probability(probability: float) -> str:
    """'97.2%'; '>99.9%' and '<0.1%' where rounding would give 100.0% or 0.0%."""
    if 0 < probability < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 <= probability < 1 else f"{probability:.1%}"


class Predictor:
    """Classifies images with a bundle: decodes ahead in threads while the engine works.

    Args:
        bundle: a bundle, or anything `vitsmith.load` takes. engine: 'auto', or a name: 'torch', 'torch-compiled',
        'onnx', 'openvino', 'executorch'; or an engine opened for this bundle, with its own threads and precision.
        batch_size: images given to the engine at once; the last batch may be smaller. decoders: threads that read and
        preprocess; by default one for each core. threads: cores the engine uses; by default all. precision: 'auto',
        which is the program's own, and fp32 for weights; or one of `engines.settings.PRECISIONS`, if an engine runs the
        model in it. max_pixels: larger images are refused before they are decoded. num_images: the number of images to
        come, if known: for many images 'auto' measures the engines.

    The bundle's `head` gives the meaning of the outputs: softmax gives probabilities that add up to 1, sigmoid a
    probability for each class by itself, a regression values. The bundle's calibration is applied. Raises InputError
    for a bundle without a classifier.
    """

    @named_arguments
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
            raise InputError(f"{self.bundle.where} has no classifier, so it cannot name classes")
        if getattr(self.bundle.config, "pooling", "") in ("unpooled", "token_unpooled"):
            raise InputError(f"{self.bundle.where} gives logits for each patch, not for the whole image")
        if self.bundle.classes == 1 and self.bundle.head == "softmax":
            raise InputError(
                f"{self.bundle.where} has one class, and softmax gives it a probability of 1 for every image: if its "
                "head is a sigmoid or a regression, use dataclasses.replace(bundle, head='sigmoid')"
            )
        self.bundle.check_preprocessing()
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
        """The name of the model in messages."""
        return self.bundle.where

    @property
    def labels(self) -> Labels | None:
        """Names of the classes, if the bundle has them."""
        return self.bundle.labels

    @property
    def head(self) -> Head:
        """The meaning of the outputs."""
        return self.bundle.head

    @property
    def score_meaning(self) -> Meaning:
        """The kind of scores of the predictions: 'probability' or 'value'."""
        return "value" if self.head == "regression" else "probability"

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> list[Prediction]:
        """Predictions in the order of `images` (one image gives a list of one). Raises as `logits` does."""
        return list(whole(self.stream(several(images))))

    def stream(self, images: Iterable[ImageSource]) -> Iterator[Prediction | Failure]:
        """Yield results in order, as batches are done. `images` may be endless: it is read only a little ahead."""
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

        Raises ImageError at an unreadable image, unless `unreadable` is given and records it, and NotFiniteError at an
        image whose outputs are NaN or infinite.
        """
        rows = self.image_stream.rows(several(images), unreadable)
        if rows is None:
            return np.zeros((0, self.bundle.classes), np.float32)
        return rows / np.float32(self._calibration.temperature)

    @property
    def _calibration(self) -> Calibration:
        return self.bundle.calibration or Calibration()


def whole(results: Iterable[Prediction | Failure]) -> Iterator[Prediction]:
    """Yield the same results; raise the `error` of a Failure."""
    for result in results:
        if isinstance(result, Failure):
            raise result.error
        yield result


def scores_from_logits(logits: Array, head: Head) -> Array:
    """Outputs (..., classes) -> probabilities, or for a regression the values unchanged."""
    return logits if head == "regression" else sigmoid(logits) if head == "sigmoid" else softmax(logits)


def sigmoid(logits: Array) -> Array:
    """Logits -> probabilities, element by element."""
    with np.errstate(over="ignore"):  # exp of a large number is infinite, and the probability 0
        probabilities: Array = 1 / (1 + np.exp(-logits))
    return probabilities


def softmax(logits: Array) -> Array:
    """(..., classes) -> probabilities over the last axis."""
    with np.errstate(over="ignore"):  # the difference of two values may overflow: the lower becomes 0
        shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)
