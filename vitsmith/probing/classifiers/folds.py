"""Folds for cross-validation: each has the classes in proportion, and what belongs together is never on both sides."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch import Tensor

from vitsmith.errors import InputError
from vitsmith.probing.classifiers.labelled import LabelledFeatures

ALWAYS_TRAINED = -1
"""The fold of images that are never left out."""


def make_folds(train: LabelledFeatures, count: int = 5, *, seed: int = 0) -> Tensor:
    """(N,) int64: the fold in which each image is left out, 0 to `count` - 1, or -1 for images that never are.

    Every class keeps an image to train on in every fold. An image is therefore never left out if its class has no
    image outside its group; without groups, if it is the only image of its class. Folds differ by one image in each
    class, and, without groups, by one image in all. A class of fewer images than folds is left out in some of them
    only. Groups are placed one by one, the largest first, where their classes are rarest: the method of
    scikit-learn's StratifiedGroupKFold.

    Always the same for the same `seed`. Raises InputError for fewer than 2 folds.
    """
    if count < 2:
        raise InputError(f"`folds` is {count}: cross-validation needs at least 2")
    labels = train.labels.cpu().numpy()
    random = np.random.default_rng(seed)
    if train.groups is None:
        folds = _by_class(labels, np.flatnonzero(has_company(train).cpu().numpy()), count, random)
    else:
        _, groups = np.unique(train.groups.cpu().numpy(), return_inverse=True)
        folds = _by_group(labels, groups, has_company(train).cpu().numpy(), count, random)
    return torch.from_numpy(folds).to(train.labels.device)


def has_company(train: LabelledFeatures) -> Tensor:
    """(N,) bool: whether an image can be left out, because its class has another image outside its group."""
    of_class = train.counts()[train.labels]
    if train.groups is None:
        return of_class > 1
    pairs = torch.stack([train.labels, train.groups], dim=1)
    _, inverse, sizes = torch.unique(pairs, dim=0, return_inverse=True, return_counts=True)
    return of_class > sizes[inverse]


def _by_class(labels: np.ndarray, members: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """The members in random order, class by class, dealt to the folds like cards."""
    shuffled = random.permutation(members)
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    folds = np.full(len(labels), ALWAYS_TRAINED, np.int64)
    folds[ordered] = np.arange(len(ordered)) % count
    return folds


def _by_group(
    labels: np.ndarray, groups: np.ndarray, company: np.ndarray, count: int, random: np.random.Generator
) -> np.ndarray:
    stays = np.zeros(groups.max() + 1, bool)
    stays[groups[~company]] = True  # a class would lose all its images with this group
    members: dict[int, list[int]] = defaultdict(list)  # labels of the images of each group
    for group, label in zip(groups.tolist(), labels.tolist(), strict=True):
        members[group].append(label)
    shuffled = random.permutation(np.flatnonzero(~stays)).tolist()
    place = np.full(len(stays), ALWAYS_TRAINED, np.int64)
    sizes = [0] * count
    of_class: dict[int, list[int]] = defaultdict(lambda: [0] * count)
    for group in sorted(shuffled, key=lambda one: -len(members[one])):
        crowd = [sum(of_class[label][fold] for label in members[group]) for fold in range(count)]
        best = min(range(count), key=lambda fold: (crowd[fold], sizes[fold]))
        place[group] = best
        sizes[best] += len(members[group])
        for label in members[group]:
            of_class[label][best] += 1
    return _keep_classes(labels, groups, place)


def _keep_classes(labels: np.ndarray, groups: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(N,) folds in which no class is left out as a whole: where one would be, one of its groups is always trained."""
    for label in np.unique(labels):
        own = groups[labels == label]
        if place[own[0]] != ALWAYS_TRAINED and (place[own] == place[own[0]]).all():
            place[own[0]] = ALWAYS_TRAINED
    return place[groups]
