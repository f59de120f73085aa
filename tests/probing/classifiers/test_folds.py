"""Folds for cross-validation, and the checks of labelled features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.model_selection import StratifiedGroupKFold

from tests.probing.classifiers.clouds import labelled
from vitsmith.errors import InputError, NotFiniteError
from vitsmith.probing.classifiers.folds import ALWAYS_TRAINED, has_company, make_folds
from vitsmith.probing.classifiers.labelled import LabelledFeatures, require_for_fitting, unit


def features_of(labels: np.ndarray, groups: np.ndarray | None = None) -> LabelledFeatures:
    return labelled(np.ones((len(labels), 2)), labels, int(labels.max()) + 1, groups)


def test_each_fold_has_the_classes_in_proportion() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [503, 101, 12, 3]))
    train = features_of(labels)
    state = torch.get_rng_state()
    folds = make_folds(train, 5, seed=3).numpy()
    assert torch.equal(torch.get_rng_state(), state)
    counts = np.array([[((folds == fold) & (labels == label)).sum() for label in range(4)] for fold in range(5)])
    assert (np.ptp(counts, axis=0) <= 1).all() and np.ptp(counts.sum(axis=1)) <= 1
    assert counts.sum() == len(labels)
    assert (folds == make_folds(train, 5, seed=3).numpy()).all()
    assert (folds != make_folds(train, 5, seed=4).numpy()).any()


def test_a_single_image_of_a_class_is_always_trained_on() -> None:
    folds = make_folds(features_of(np.array([0, 1, 1])), 5).tolist()
    assert folds[0] == ALWAYS_TRAINED and sorted(folds[1:]) == [0, 1]
    assert make_folds(features_of(np.array([0, 1, 2]))).tolist() == [ALWAYS_TRAINED] * 3


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_never_split_and_no_class_is_left_out_as_a_whole(seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, 120)
    groups = random.integers(0, [4, 15, 60][seed % 3], 120)  # few large ones, with images of several classes, to many
    groups[labels == 5] = 0  # a class within a single group
    folds = make_folds(features_of(labels, groups), 4, seed=seed).numpy()
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1
    for fold in range(4):
        assert set(labels[folds != fold]) == set(labels)
    assert (folds[groups == 0] == ALWAYS_TRAINED).all()


def test_groups_are_spread_as_evenly_as_by_scikit_learn() -> None:
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(80), random.integers(1, 9, 80))
    labels = random.integers(0, 4, 80)[groups]
    folds = make_folds(features_of(labels, groups), 5).numpy()
    theirs = np.empty_like(folds)
    for fold, (_, test) in enumerate(
        StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, groups)
    ):
        theirs[test] = fold

    def unevenness(placed: np.ndarray) -> float:
        counts = np.array([[((placed == fold) & (labels == label)).sum() for label in range(4)] for fold in range(5)])
        return float(counts.std(axis=0).mean())

    assert unevenness(folds) <= 1.2 * unevenness(theirs)


def test_company_is_another_image_of_the_class_outside_the_group() -> None:
    labels, groups = [0, 0, 1, 1, 2, 0], [7, 7, 8, 9, 7, 9]
    assert has_company(labelled(np.ones((6, 1)), labels, 3, groups)).tolist() == [True, True, True, True, False, True]
    assert has_company(labelled(np.ones((6, 1)), labels, 3)).tolist() == [True, True, True, True, False, True]
    assert has_company(labelled(np.ones((2, 1)), [0, 0], 1, [5, 5])).tolist() == [False, False]


def test_what_is_no_labelled_features_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\)"):
        labelled([1, 2, 3], [0, 1, 0], 2)
    with pytest.raises(InputError, match=r"shape \(0, 4\)"):
        labelled(np.ones((0, 4)), np.zeros(0, int), 2)
    with pytest.raises(InputError, match=r"`labels` have the shape \(2,\), and there are 3 images"):
        labelled(np.ones((3, 2)), [0, 1], 2)
    with pytest.raises(InputError, match=r"`groups` have the shape \(1,\)"):
        labelled(np.ones((3, 2)), [0, 1, 1], 2, [1])
    with pytest.raises(InputError, match="whole numbers"):
        labelled(np.ones((3, 2)), [0.0, 1.0, 1.0], 2)
    with pytest.raises(InputError, match="labels are 0 to 2, and 2 classes have labels 0 to 1"):
        labelled(np.ones((3, 2)), [0, 1, 2], 2)
    features = np.ones((9, 2))
    features[[1, 3, 4, 5, 6, 8], 0] = [np.nan, np.inf, 1e300, np.nan, -np.inf, np.nan]
    with pytest.raises(NotFiniteError, match=r"6 of 9 images are not finite.*rows 1, 3, 4, 5, 6 and 1 more"):
        labelled(features, np.zeros(9, int), 2)
    with pytest.raises(InputError, match="at least 3 training images, and there are 2"):
        require_for_fitting(labelled(np.ones((2, 2)), [0, 1], 2))
    with pytest.raises(InputError, match="all training images are of one class"):
        require_for_fitting(labelled(np.ones((3, 2)), [1, 1, 1], 2))
    with pytest.raises(InputError, match="`folds` is 1"):
        make_folds(labelled(np.ones((3, 2)), [1, 0, 1], 2), 1)


def test_unit_vectors_of_huge_tiny_and_zero_features() -> None:
    rows = torch.tensor([[3e30, 4e30], [3e-42, 4e-42], [0.0, 0.0], [-3.0, 4.0]])
    expected = [[0.6, 0.8], [0.6, 0.8], [0, 0], [-0.6, 0.8]]
    np.testing.assert_allclose(unit(rows).numpy(), expected, atol=2e-3)
