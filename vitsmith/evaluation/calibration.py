"""Whether a classifier's probabilities can be trusted. N images, K classes; NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitsmith.specs import Head

BINS = 15  # as in Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599, section 2


@dataclass(frozen=True)
class ReliabilityBin:
    """The images whose highest probability lies in (low, high]."""

    low: float
    high: float
    count: int
    confidence: float | None
    """Mean highest probability; None for an empty bin."""
    accuracy: float | None
    """Share of right answers; None for an empty bin."""


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, K) logarithms of the probabilities, in double precision."""
    shifted = logits - logits.max(axis=1, keepdims=True).astype(np.float64)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def log_sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N, K) logarithms of each class's own probability, in double precision."""
    result: NDArray[np.float64] = -np.logaddexp(0, -logits.astype(np.float64))
    return result


def log_probabilities(logits: NDArray[np.float32], head: Head) -> NDArray[np.float64]:
    """(N, K) logarithms of the model's probabilities, in double precision."""
    return log_sigmoid(logits) if head == "sigmoid" else log_softmax(logits)


def reliability_bins(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """Bins of equal width over (0, 1]. `confidence`: (N,) highest probabilities; `correct`: (N,) whether right."""
    edges = np.arange(bins + 1) / bins
    places = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    confidences = np.bincount(places, confidence, minlength=bins)
    corrects = np.bincount(places, correct, minlength=bins)
    return tuple(
        ReliabilityBin(
            low=float(edges[at]),
            high=float(edges[at + 1]),
            count=int(counts[at]),
            confidence=float(confidences[at] / counts[at]) if counts[at] else None,
            accuracy=float(corrects[at] / counts[at]) if counts[at] else None,
        )
        for at in range(bins)
    )


def calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    """Expected calibration error: the gap between confidence and accuracy, averaged over the images."""
    images = sum(each.count for each in bins)
    gaps = (
        each.count * abs(each.accuracy - each.confidence)
        for each in bins
        if each.accuracy is not None and each.confidence is not None
    )
    return sum(gaps) / images
