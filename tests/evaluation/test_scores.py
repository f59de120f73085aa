"""Scores, against scikit-learn, SciPy and sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
import scipy.stats
import sklearn.metrics

from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.evaluation.scores import score_logits


@pytest.fixture(scope="module")
def answers() -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    labels = random.integers(0, 8, 300)
    logits = random.normal(size=(300, 8)).astype(np.float32)
    logits[np.arange(300), labels] += 1.5
    return logits, labels


def test_shares_are_scikit_learns(answers) -> None:
    logits, labels = answers
    scores = score_logits(logits, labels)
    predicted = logits.argmax(axis=1)
    assert scores.top1 == pytest.approx(sklearn.metrics.accuracy_score(labels, predicted))
    assert scores.top5 == pytest.approx(sklearn.metrics.top_k_accuracy_score(labels, logits, k=5))
    assert scores.macro_recall == pytest.approx(sklearn.metrics.balanced_accuracy_score(labels, predicted))
    probabilities = scipy.special.softmax(logits.astype(np.float64), axis=1)
    assert scores.nll == pytest.approx(sklearn.metrics.log_loss(labels, probabilities))
    np.testing.assert_array_equal(scores.confusion, sklearn.metrics.confusion_matrix(labels, predicted))
    assert [each.count for each in scores.per_class] == np.bincount(labels).tolist()


def test_top5_of_fewer_classes_is_everything() -> None:
    assert score_logits(np.array([[1, 2, 3]], np.float32), np.array([0])).top5 == 1.0


def test_calibration_error_by_hand() -> None:
    # Three answers of confidence 0.9 of which two are right, one of 0.6 that is wrong: 3/4 * 0.2333 + 1/4 * 0.6.
    sure, unsure = np.log(0.9 / 0.1), np.log(0.6 / 0.4)
    logits = np.array([[sure, 0], [sure, 0], [sure, 0], [unsure, 0]], np.float32)
    scores = score_logits(logits, np.array([0, 0, 1, 1]))
    assert scores.calibration_error == pytest.approx(0.75 * (0.9 - 2 / 3) + 0.25 * 0.6, abs=1e-6)
    assert sum(each.count for each in scores.reliability) == 4


@pytest.mark.parametrize(("correct", "count"), [(0, 10), (7, 10), (10, 10), (354, 359)])
def test_interval_is_wilsons(correct: int, count: int) -> None:
    expected = scipy.stats.binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson_interval(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(
    ("logits", "labels", "told"),
    [
        (np.zeros((0, 3), np.float32), np.zeros(0, int), "no images"),
        (np.zeros((2, 3), np.float32), np.array([0, 3]), "labels run"),
        (np.full((1, 2), np.nan, np.float32), np.array([0]), "finite"),
        (np.zeros(3, np.float32), np.array([0]), "scores need"),
    ],
)
def test_nonsense_is_refused(logits, labels, told) -> None:
    with pytest.raises(InputError, match=told):
        score_logits(logits, labels)
