"""Evaluates a bundle on a labelled data set: matches classes by name, and predicts with `Predictor` as elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vitsmith.data.images.sources import ImageSource
from vitsmith.data.images.unreadable import OPTION, SHARE, Unreadable
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.accuracy import right_answers
from vitsmith.evaluation.scores import Scores, score_logits
from vitsmith.gate import Paired
from vitsmith.machine import describe_machine
from vitsmith.names import ambiguous_name, meant_name, normal, positions_by_name
from vitsmith.records import Measurement
from vitsmith.specs import Head, Labels
from vitsmith.weights.bundle.measurements import accuracy, evaluated_speed


class Named(Protocol):
    """A model with names for its classes: a bundle, or a classifier."""

    @property
    def where(self) -> str:
        """Name of the model in messages."""

    @property
    def labels(self) -> Labels | None:
        """Names of the classes, in the order of the logits."""


class Headed(Protocol):
    """A model that says what its outputs mean: a bundle, or a classifier."""

    @property
    def where(self) -> str:
        """Name of the model in messages."""

    @property
    def head(self) -> Head:
        """The meaning of the outputs."""


class Classifier(Named, Headed, Protocol):
    """A model that can be evaluated: a `Predictor`, or a `ZeroShotClassifier`."""

    def logits(self, images: Iterable[ImageSource], unreadable: Unreadable | None = None) -> np.ndarray[Any, Any]:
        """float32 (images, classes), in order, without the unreadable images, which are added to `unreadable`."""


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Scores of one bundle on one data set, with what they were computed from."""

    scores: Scores
    logits: np.ndarray[Any, Any]
    """float32 (images, classes), in the order of the samples, without images that were left out."""
    labels: np.ndarray[Any, Any]
    """int64 (images,), positions among the model's classes."""
    classes: tuple[str, ...]
    """Names of the model's classes; equal names are made distinct."""
    seconds: float
    """Time of reading, preprocessing and inference together."""
    left_out: tuple[str, ...] = ()
    """What is wrong with each unreadable image; these images are not in the scores."""
    model: str = ""
    """Name of the model; '' where it is not known."""
    data: str = ""
    """Name of the images, as 'pets, held-out images'."""
    told: tuple[str, ...] = ()
    """Remarks on these images: which they are, and whether the model was trained on any."""

    def __str__(self) -> str:
        return f"{self.scores}{f' of {self.data}' if self.data else ''}"

    def __repr__(self) -> str:
        return f"<Evaluation {self}>"

    @property
    def right(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(images,) whether the top class is right, in the order of `labels`."""
        return right_answers(self.logits, self.labels)

    def measurements(
        self, data: str, engine: str, precision: str = "", *, zero_shot: bool = False
    ) -> tuple[Measurement, ...]:
        """The scores as a bundle keeps them; `precision` '' is the program's own, `zero_shot` prefixes the metrics."""
        prefix = "zero_shot_" if zero_shot else ""
        scores, machine = self.scores, describe_machine()
        ran: dict[str, Any] = {"engine": engine, "precision": precision}
        return (
            accuracy(scores.top1, data, machine, metric=f"{prefix}top1", interval=scores.top1_interval, **ran),
            accuracy(scores.top5, data, machine, metric=f"{prefix}top5", **ran),
            accuracy(scores.calibration_error, data, machine, metric=f"{prefix}calibration_error", **ran),
            evaluated_speed(engine, scores.num_images / self.seconds, data, machine, precision=precision),
        )


def evaluate(
    classifier: Classifier,
    samples: Samples,
    *,
    skip_unreadable: float = SHARE,
    on_image: Callable[[], None] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Evaluation:
    """Runs every image through the classifier. `on_image` is called before each image.

    A share of at most `skip_unreadable` of the images may be unreadable: these are left out, and `tell` is called with
    what is wrong with each. Raises DatasetError when classes cannot be matched by name and when too many images are
    unreadable, and InputError for a regression.
    """
    refuse_regression(classifier, "top-1 accuracy")
    labels = match_classes(classifier, samples)
    assert classifier.labels is not None
    unreadable = Unreadable(samples.names, skip_unreadable, tell, OPTION)
    began = time.perf_counter()
    logits = classifier.logits(_counted(samples, on_image), unreadable)
    seconds = time.perf_counter() - began
    labels = labels[unreadable.kept()]
    left_out = tuple(unreadable.complaints.values())
    scores = score_logits(logits, labels, classifier.head)
    return Evaluation(scores, logits, labels, classifier.labels.shown, seconds, left_out)


def compare_accuracy(reference: Evaluation, candidate: Evaluation) -> Paired:
    """Compares two evaluations of the same images. Raises InputError when the images are not the same."""
    if reference.left_out != candidate.left_out or not np.array_equal(reference.labels, candidate.labels):
        raise InputError(
            "two models are compared image by image, but these were evaluated on different images: "
            "evaluate both on the same data"
        )
    return Paired.of(reference.right, candidate.right)


def refuse_regression(model: Headed, measure: str) -> None:
    """Raises InputError for a regression: it has no top class, which `measure` needs."""
    if model.head == "regression":
        raise InputError(
            f"{model.where} gives values (a regression) and no classes, and cannot be evaluated by {measure}: compare "
            "its values yourself, with vitsmith.Predictor(model).logits(images)"
        )


def match_classes(model: Named, samples: Samples) -> np.ndarray[Any, Any]:
    """(images,) labels of the samples as positions among the model's classes, matched by name and never by order.

    Names in NFC and NFD are the same. Raises DatasetError for classes that the model does not know, and for a name that
    several of its classes have; 'crane (517)' names one of them.
    """
    names = model.labels
    if names is None:
        raise DatasetError(
            f"{model.where} does not name its classes, so the folders of the data cannot be matched with them: "
            "give `labels_file` FILE, one name a line in the order of the logits"
        )
    positions = positions_by_name(names.names)
    unknown = [name for name in samples.classes if normal(name) not in positions]
    if unknown:
        raise DatasetError(
            f"the model does not know {len(unknown)} of the data's {len(samples.classes)} classes, "
            f"the first is {unknown[0]!r}: {meant_name(unknown[0], names.shown)}"
        )
    if told := next(filter(None, (ambiguous_name(name, names.names) for name in samples.classes)), ""):
        raise DatasetError(f"{model.where} cannot be evaluated on this data: {told}, as the name of the data's class")
    return np.array([positions[normal(name)][0] for name in samples.classes], np.int64)[samples.labels]


def _counted(samples: Samples, on_image: Callable[[], None] | None) -> Iterator[ImageSource]:
    for source in samples.sources:
        if on_image is not None:
            on_image()
        yield source
