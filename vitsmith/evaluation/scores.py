"""All scores of a classifier on labelled images, from its logits. NumPy only."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.errors import NOT_FINITE, InputError, NotFiniteError
from vitsmith.evaluation.accuracy import confusion_matrix, ranks, wilson_interval
from vitsmith.evaluation.calibration import ReliabilityBin, calibration_error, log_probabilities, reliability_bins
from vitsmith.specs import Head


@dataclass(frozen=True)
class ClassScore:
    """Scores of one class."""

    count: int
    """Images of the class."""
    correct: int
    """Images of the class that are classified correctly."""

    @property
    def accuracy(self) -> float | None:
        """Share of correct images; None when the class has no image."""
        return self.correct / self.count if self.count else None


@dataclass(frozen=True, eq=False, repr=False)
class Scores:
    """Scores on N images of K classes. Shares are between 0 and 1."""

    num_images: int
    top1: float
    top1_interval: tuple[float, float]
    """95% confidence interval (Wilson)."""
    top5: float
    """Share of images whose class is among the first min(5, K) choices."""
    macro_recall: float
    """Mean accuracy of the classes that have images: each class counts the same."""
    nll: float
    """Mean negative log-likelihood of the labels (cross-entropy), in nats; with sigmoid, summed over the classes."""
    calibration_error: float
    """Expected calibration error over 15 bins."""
    per_class: tuple[ClassScore, ...]
    """Scores of each class, in the order of the logits."""
    reliability: tuple[ReliabilityBin, ...]
    confusion: NDArray[np.int64]
    """(K, K) counts: row, the true class; column, the predicted one."""

    def __str__(self) -> str:
        low, high = self.top1_interval
        images = f"{self.num_images:,} image{'s' * (self.num_images != 1)}"
        return f"top-1 {self.top1:.2%} (95% interval {low:.2%} to {high:.2%}) on {images}"

    def __repr__(self) -> str:
        return f"<Scores {self}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        classes = [{"count": each.count, "correct": each.correct, "accuracy": each.accuracy} for each in self.per_class]
        return {
            "num_images": self.num_images,
            "top1": self.top1,
            "top1_interval": list(self.top1_interval),
            "top5": self.top5,
            "macro_recall": self.macro_recall,
            "nll": self.nll,
            "calibration_error": self.calibration_error,
            "per_class": classes,
            "reliability": [asdict(each) for each in self.reliability],
            "confusion": self.confusion.tolist(),
        }


def score_logits(logits: NDArray[np.float32], labels: NDArray[np.int64], head: Head = "softmax") -> Scores:
    """Scores from logits (N, K) and labels (N,), positions in 0..K-1.

    `head` says how logits become probabilities: softmax over all classes, or sigmoid of each class.

    Raises InputError for shapes that do not fit, labels out of range, no images, and a regression; NotFiniteError for
    logits that are not finite.
    """
    _check(logits, labels)
    if head == "regression":
        raise InputError("the values of a regression have no first choice to score: compare them with the true values")
    count, classes = logits.shape
    rank = ranks(logits, labels)
    right = rank == 0
    confusion = confusion_matrix(logits.argmax(axis=1), labels, classes)
    per_class = tuple(ClassScore(count=int(row.sum()), correct=int(row[label])) for label, row in enumerate(confusion))
    recalls = [each.accuracy for each in per_class if each.accuracy is not None]
    logs = log_probabilities(logits, head)
    bins = reliability_bins(np.exp(logs.max(axis=1)), right)
    return Scores(
        num_images=count,
        top1=float(right.mean()),
        top1_interval=wilson_interval(int(right.sum()), count),
        top5=float((rank < 5).mean()),
        macro_recall=sum(recalls) / len(recalls),
        nll=_cross_entropy(logits, labels, logs, head),
        calibration_error=calibration_error(bins),
        per_class=per_class,
        reliability=bins,
        confusion=confusion,
    )


def _cross_entropy(
    logits: NDArray[np.float32], labels: NDArray[np.int64], logs: NDArray[np.float64], head: Head
) -> float:
    """Mean over the images of the loss of training; with sigmoid, all other classes count as absent."""
    right = np.take_along_axis(logs, labels[:, None], axis=1)[:, 0]
    if head != "sigmoid":
        return float(-right.mean())
    absent = log_probabilities(-logits, head)  # log(1 - sigmoid(x)) = log sigmoid(-x)
    others = absent.sum(axis=1) - np.take_along_axis(absent, labels[:, None], axis=1)[:, 0]
    return float(-(right + others).mean())


def _check(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise InputError(
            f"scores need logits (images, classes) and as many integer labels, "
            f"got {logits.shape} and {labels.dtype} {labels.shape}"
        )
    count, classes = logits.shape
    if not count:
        raise InputError("there are no images to score: give at least one")
    if labels.min() < 0 or labels.max() >= classes:
        raise InputError(
            f"labels run from {labels.min()} to {labels.max()} but the logits have {classes} classes (0 to "
            f"{classes - 1}): use the model that belongs to these labels"
        )
    if not np.isfinite(logits).all():
        raise NotFiniteError(
            f"{np.count_nonzero(~np.isfinite(logits).all(axis=1))} of {count} images have logits that are "
            f"{NOT_FINITE}: check the model's precision"
        )
