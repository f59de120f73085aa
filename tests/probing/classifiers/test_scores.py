"""Scores of one method on held-out images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, recall_score

from tests.probing.classifiers.clouds import clouds, labelled
from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.probing.classifiers.neighbours import fit_neighbours
from vitsmith.probing.classifiers.scores import score_answers, score_probe


def test_a_score_is_scikit_learns() -> None:
    held_out = clouds(300, seed=1)
    probe = fit_neighbours(clouds(200))
    score = score_probe(probe, held_out)
    truth, answers = held_out.labels.numpy(), probe.classify(held_out.features).numpy()
    assert score.accuracy == pytest.approx(accuracy_score(truth, answers))
    assert score.mean_per_class == pytest.approx(recall_score(truth, answers, average="macro"))
    assert score.per_class == pytest.approx(recall_score(truth, answers, average=None))
    assert score.interval == wilson_interval(int((truth == answers).sum()), 300)
    assert (score.method, score.setting, score.images) == ("k-NN", f"k {probe.count}", 300)
    assert set(score.to_dict()) == {
        *("method", "setting", "accuracy", "interval", "mean_per_class", "per_class", "images", "remarks")
    }


def test_classes_without_held_out_images_are_told_apart() -> None:
    score = score_answers("zero-shot", torch.tensor([0, 2, 2]), labelled(np.ones((3, 1)), [0, 2, 0], 4))
    assert score.per_class == (0.5, None, 1.0, None) and score.mean_per_class == 0.75


def test_copies_are_counted_in_the_accuracy_and_as_one_image_in_the_interval() -> None:
    labels, groups = [0] * 60 + [1], [4] * 60 + [9]
    score = score_answers("d", torch.tensor(labels), labelled(np.ones((61, 1)), labels, 2, groups))
    assert (score.accuracy, score.images, score.independent) == (1.0, 61, pytest.approx(61**2 / 3601))
    assert score.interval == pytest.approx(wilson_interval(61**2 / 3601, 61**2 / 3601))
    pairs = labelled(np.ones((8, 1)), [0, 0, 1, 1] * 2, 2, [1, 2, 3, 4] * 2)
    assert score_answers("d", torch.tensor([0, 1, 1, 1] * 2), pairs).interval == pytest.approx(wilson_interval(3, 4))


def test_answers_for_other_images_are_refused() -> None:
    held_out = labelled(np.ones((6, 1)), [0, 1, 0, 1, 0, 1], 2)
    with pytest.raises(InputError, match=r"gave answers \(2,\) for 6 images"):
        score_answers("d", torch.tensor([0, 1]), held_out)
