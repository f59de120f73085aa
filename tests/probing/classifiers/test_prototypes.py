"""Class means of a few images, and the interval of their accuracy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestCentroid

from tests.probing.classifiers.clouds import clouds, labelled
from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.probing.classifiers import prototypes as subject
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.prototypes import crossed_interval, score_few_shot


def with_unit_length(features: torch.Tensor) -> np.ndarray:
    values = features.double().numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_all_images_of_each_class_give_the_means_of_scikit_learn() -> None:
    train, held_out = clouds(200), clouds(400, seed=1)
    most = int(train.counts().max())
    (found,) = score_few_shot(train, held_out, shots=[most], draws=3)
    centres = NearestCentroid().fit(with_unit_length(train.features), train.labels).centroids_
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    answers = (with_unit_length(held_out.features) @ centres.T).argmax(axis=1)
    assert found.accuracy == pytest.approx((answers == held_out.labels.numpy()).mean(), abs=1e-9)
    assert found.deviation == 0 and found.interval == pytest.approx(
        wilson_interval(round(400 * found.accuracy), 400), abs=2e-3
    )


def test_accuracy_over_draws_is_that_of_a_plain_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_AT_ONCE", 300 * 4 * 7)  # several blocks of draws
    train, held_out = clouds(200), clouds(300, seed=1)
    state, before = torch.get_rng_state(), train.features.clone()
    found = score_few_shot(train, held_out, shots=[4, 1], draws=40, seed=5)
    assert torch.equal(torch.get_rng_state(), state) and torch.equal(train.features, before)
    assert found == score_few_shot(train, held_out, shots=[1, 4], draws=40, seed=5)
    assert [one.shots for one in found] == [1, 4] and found[0].accuracy < found[1].accuracy
    features, labels, queries = (
        with_unit_length(train.features),
        train.labels.numpy(),
        with_unit_length(held_out.features),
    )
    random = np.random.default_rng(99)
    for one in found:
        scores = []
        for _ in range(300):
            chosen = [random.choice(np.flatnonzero(labels == label), one.shots, replace=False) for label in range(4)]
            means = np.stack([features[rows].mean(axis=0) for rows in chosen])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            scores.append(((queries @ means.T).argmax(axis=1) == held_out.labels.numpy()).mean())
        assert one.accuracy == pytest.approx(np.mean(scores), abs=3.5 * np.std(scores) / 40**0.5)
        assert one.deviation == pytest.approx(np.std(scores), rel=0.4)


def test_the_interval_holds_the_true_mean() -> None:
    """Answers that depend on the draw, on the image and on both: 95% of the intervals hold what is expected."""
    random = np.random.default_rng(0)

    def chances(draws: int, images: int) -> np.ndarray:
        return (0.3 + 0.15 * random.normal(size=(draws, 1)) + 0.8 * random.random(images)).clip(0, 1)

    expected = chances(2000, 2000).mean()
    ends = np.array([crossed_interval(random.random((20, 60)) < chances(20, 60)) for _ in range(400)])
    held = (ends[:, 0] <= expected) & (expected <= ends[:, 1])
    assert 0.92 < held.mean() < 0.99


@pytest.mark.parametrize("images", [1, 2, 3, 5, 10])
@pytest.mark.parametrize("mean", [0.5, 0.85])
def test_the_interval_of_a_few_images_holds_the_true_mean(images: int, mean: float) -> None:
    """Images of which most are nearly always right or nearly always wrong, whatever the draw."""
    random, held = np.random.default_rng(images), 0
    for _ in range(400):
        right = random.random((20, images)) < random.beta(mean, 1 - mean, images)
        low, high = crossed_interval(right)
        held += low <= mean <= high
    assert held >= 0.93 * 400


def test_copies_count_as_one_image() -> None:
    random = np.random.default_rng(3)
    right = random.random((20, 12)) < random.random(12)
    twice, groups = np.tile(right, 2), np.tile(np.arange(12), 2)
    assert crossed_interval(twice, groups) == pytest.approx(crossed_interval(right))
    low, high = crossed_interval(np.ones((20, 61), bool), np.array([0] * 60 + [7]))
    assert high == 1 and low == pytest.approx(wilson_interval(1, 1)[0], abs=0.02)
    held, expected = 0, 0.7
    for _ in range(300):  # one image in 20 copies beside 30 single ones
        chances = random.beta(0.7, 0.3, 31)
        columns = np.repeat(random.random((20, 31)) < chances, [20] + [1] * 30, axis=1)
        low, high = crossed_interval(columns, np.repeat(np.arange(31), [20] + [1] * 30))
        held += low <= expected <= high
    assert held >= 0.9 * 300


def test_the_interval_where_answers_do_not_differ() -> None:
    assert crossed_interval(np.ones((5, 30), bool)) == pytest.approx(wilson_interval(30, 30))
    assert crossed_interval(np.zeros((5, 30), bool)) == pytest.approx(wilson_interval(0, 30))
    same = np.tile(np.arange(40) < 30, (6, 1))  # every draw gives the same answers: as if there were one
    assert crossed_interval(same) == pytest.approx(wilson_interval(30, 40), abs=0.005)


def test_classes_with_fewer_images_than_shots_are_told() -> None:
    train = labelled(np.eye(8), [0, 0, 0, 0, 1, 1, 2, 2], 4)
    held_out = labelled(np.eye(8)[:7], [0, 0, 0, 0, 1, 1, 3], 4)
    found = score_few_shot(train, held_out, draws=4)
    assert [one.shots for one in found] == [1, 2, 4]  # 8 and 16 would be 4 again
    assert [one.short_classes for one in found] == [(), (), (1, 2)]
    assert all(one.absent_classes == (3,) for one in found)
    assert found[2].accuracy == pytest.approx(6 / 7)
    assert found[2].to_dict()["short_classes"] == [1, 2]


def test_what_cannot_be_scored_is_refused() -> None:
    train = clouds(20)
    with pytest.raises(InputError, match="`shots` are"):
        score_few_shot(train, train, shots=[0])
    with pytest.raises(InputError, match="`draws` 1"):
        score_few_shot(train, train, draws=1)
    with pytest.raises(InputError, match="fitted to 12 numbers"):
        score_few_shot(train, clouds(20, width=5))
    with pytest.raises(InputError, match="one class"):
        score_few_shot(LabelledFeatures(torch.ones(4, 2), torch.zeros(4, dtype=torch.int64), 2), train)
