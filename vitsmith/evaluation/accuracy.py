"""How often a classifier is right, and how sure that figure is. N images, K classes; NumPy only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_95_PERCENT = 1.959963984540054  # two-sided quantile of the normal distribution


def ranks(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(N,) number of classes ranked before the right one, 0 when it is first; among equals the lower class is first."""
    right = np.take_along_axis(logits, labels[:, None], axis=1)  # (N, 1)
    earlier = np.arange(logits.shape[1]) < labels[:, None]  # (N, K)
    return np.count_nonzero((logits > right) | ((logits == right) & earlier), axis=1).astype(np.int64)


def right_answers(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether the top class is the right one; among equals the lower class is first."""
    right: NDArray[np.bool_] = ranks(logits, labels) == 0
    return right


def confusion_matrix(predicted: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """(K, K) counts: row, the true class; column, the predicted one."""
    counts = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return counts.reshape(classes, classes).astype(np.int64)


def wilson_interval(correct: float, count: float) -> tuple[float, float]:
    """95% confidence interval of a proportion (E. B. Wilson, 1927), good near 0 and 1 and for few images too."""
    share, squared = correct / count, _95_PERCENT**2
    centre = (share + squared / (2 * count)) / (1 + squared / count)
    spread = share * (1 - share) / count + squared / (4 * count**2)
    margin = _95_PERCENT / (1 + squared / count) * math.sqrt(spread)
    return max(centre - margin, 0.0), min(centre + margin, 1.0)
