"""Which of a user's labelled images are used: at most so many, the classes in proportion, always the same by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.sets.datasets import DataSpec, check_there, find_source
from vitsmith.data.sets.samples import Samples, join
from vitsmith.errors import DatasetError

MOST_IMAGES = 1_000
"""Enough to tell models apart that differ by some points, and minutes for a small model on a laptop."""
FEWEST = 20
"""With fewer images an accuracy says nothing: one image is 5 points."""
_CHOSEN_FROM = ("", "train", "val")
"""Parts of a data set to choose a model by; the test images are for the end."""


@dataclass(frozen=True)
class Unusable:
    """Data on which no model can be scored, and why, in one line that says what is done instead."""

    told: str


def labelled_sample(spec: DataSpec, most: int = MOST_IMAGES, *, seed: int = 0) -> Samples | Unusable:
    """At most `most` labelled images of the data, but for its test images where there are others.

    Raises DatasetError where nothing is there.
    """
    check_there(spec.path)
    try:
        source = find_source(spec.path, spec)
        names = [name for name in _CHOSEN_FROM if name in source.parts] or list(source.parts)
        images = join({name: source.parts[name]() for name in names})
    except DatasetError as error:
        return Unusable(_told(str(error)))
    counts = np.bincount(images.labels, minlength=len(images.classes))
    present = int((counts > 0).sum())
    if present < 2:
        return Unusable(_told(f"all images of {spec.path} are of one class, so that there is nothing to tell apart"))
    if len(images) < FEWEST or counts[counts > 0].max() < 2:
        return Unusable(
            _told(
                f"{spec.path} has {len(images)} labelled images of {present} classes, and at least {FEWEST}, two of a "
                "class, are needed"
            )
        )
    chosen = stratified(images.labels, most, seed=seed)
    return images if len(chosen) == len(images) else images.select(chosen)


def stratified(labels: NDArray[np.int64], most: int, *, seed: int = 0) -> NDArray[np.int64]:
    """Positions of at most `most` images, ascending: each class its share, and two of each class first."""
    if len(labels) <= most:
        return np.arange(len(labels))
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    turn = np.empty(len(labels))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        places = np.arange(len(own))
        turn[own] = np.where(places < 2, places - 2.0, (places + 0.5) / len(own))  # two of each class before all others
    return np.sort(order[np.argsort(turn[order], kind="stable")][:most])


def _told(reason: str) -> str:
    return f"{reason.rstrip('.')}: no model is scored on these images, and published accuracy ranks instead"
