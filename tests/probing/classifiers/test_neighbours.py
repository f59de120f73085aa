"""k-NN and the choice of k, against scikit-learn and plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import LeaveOneGroupOut, LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from tests.probing.classifiers.clouds import clouds, labelled
from vitsmith.errors import InputError
from vitsmith.probing.classifiers import neighbours as subject
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.neighbours import fit_neighbours


def theirs(count: int) -> KNeighborsClassifier:
    return KNeighborsClassifier(
        count, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )


@pytest.mark.parametrize(("images", "count"), [(500, 20), (500, 1), (9, 50)])
def test_the_vote_is_scikit_learns(images: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_AT_ONCE", 400 * images)  # more queries than are compared at once
    train, queries = clouds(images), clouds(1500, seed=1)
    model = theirs(min(count, images)).fit(train.features.numpy(), train.labels.numpy())
    own = fit_neighbours(train, counts=[count]).classify(queries.features).numpy()
    assert (own == model.predict(queries.features.numpy())).mean() > 0.999  # equal votes may be rounded either way


@pytest.mark.parametrize("grouped", [False, True])
def test_k_is_chosen_by_leaving_each_out(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_AT_ONCE", 37 * 150)
    train = clouds(150, spread=2.0)
    before = train.features.clone()
    features, labels = train.features.numpy(), train.labels.numpy()
    groups = np.arange(150) // 3 if grouped else None
    train = LabelledFeatures(train.features, train.labels, 4, None if groups is None else torch.from_numpy(groups))
    found = fit_neighbours(train, counts=[10, 1, 40, 3, 3])
    split = LeaveOneGroupOut() if grouped else LeaveOneOut()
    expected = {
        count: (cross_val_predict(theirs(count), features, labels, cv=split, groups=groups) == labels).mean()
        for count in (1, 3, 10, 40)
    }
    assert {one.value: one.accuracy for one in found.choice.tried} == pytest.approx(expected, abs=0.008)  # one image
    assert expected[found.count] >= max(expected.values()) - 0.008
    assert f"{found.choice}" == f"k {found.count}" and torch.equal(train.features, before)


def test_of_many_images_k_is_chosen_on_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "_AT_ONCE", 37 * 300)
    train = clouds(300, spread=2.0)
    every = fit_neighbours(train, counts=[1, 10])
    monkeypatch.setattr(subject, "MOST_COMPARED", 299)
    monkeypatch.setattr(subject, "SAMPLE", 60)
    state = torch.get_rng_state()
    found = fit_neighbours(train, counts=[1, 10])
    assert torch.equal(torch.get_rng_state(), state)
    left = subject._left_out(train).tolist()
    assert left == sorted(set(left)) and len(left) == 60
    features, labels, answers = train.features.numpy(), train.labels.numpy(), {1: 0, 10: 0}
    for count in answers:
        for one in left:
            others = np.arange(300) != one
            answer = theirs(count).fit(features[others], labels[others]).predict(features[one : one + 1])
            answers[count] += int(answer[0] == labels[one])
    assert {one.value: one.accuracy for one in found.choice.tried} == {k: right / 60 for k, right in answers.items()}
    assert [one.images for one in found.choice.tried] == [60, 60] and [one.images for one in every.choice.tried] != [60]
    assert "k was chosen on 60 of the 300 training images, drawn at random" in found.choice.remarks
    assert not any("drawn" in one for one in every.choice.remarks)


def test_equal_similarities_are_taken_in_order() -> None:
    """Identical features with different labels: the first of them, and of equal votes the lower class."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 40)
    train = labelled(np.ones((40, 4)), labels, 3)
    for count in (1, 2, 5, 11):
        expected = np.bincount(labels[:count], minlength=3).argmax()
        assert fit_neighbours(train, counts=[count]).classify(torch.ones(2, 4)).tolist() == [expected] * 2


def test_few_images() -> None:
    found = fit_neighbours(labelled([[1, 0], [0.9, 0.1], [0, 1]], [0, 0, 1], 2))
    assert [(one.value, one.accuracy) for one in found.choice.tried] == [(1, 1.0), (2, 1.0)]
    assert found.count == 2 and found.choice.remarks == ()
    angles = np.radians([0, 1, 2.1, 3, 4, 90, 91, 92, 93])  # the third has a wrong label, which misleads its nearest
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    best = fit_neighbours(labelled(rows, [0, 0, 1, 0, 0, 1, 1, 1, 1], 2), counts=[1, 3])
    assert best.choice.remarks == ("the best k, 3, is the largest that was tried: a larger one may be better",)
    single = fit_neighbours(labelled(np.eye(3), [0, 1, 2], 3))
    assert single.count == 1 and "single training image" in single.choice.remarks[0] and not single.choice.tried
    assert single.classify(torch.eye(3)).tolist() == [0, 1, 2]


def test_what_cannot_be_fitted_is_refused() -> None:
    train = clouds(20)
    with pytest.raises(InputError, match="`counts` are"):
        fit_neighbours(train, counts=[0, 3])
    with pytest.raises(InputError, match=r"fitted to 12 numbers an image.*\(3, 5\)"):
        fit_neighbours(train).classify(torch.ones(3, 5))
    with pytest.raises(InputError, match="one class"):
        fit_neighbours(labelled(np.ones((4, 2)), [1, 1, 1, 1], 3))
