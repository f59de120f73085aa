"""A labelled data set, divided into training or calibration images and evaluation images.

`evaluation/held_out.py` decides, for every verb, which images evaluate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vitsmith.arguments import Tell
from vitsmith.data.sets.datasets import ALL, DataSpec, find_source, open_dataset, telling, training_part
from vitsmith.data.sets.samples import Samples, place_of
from vitsmith.data.sets.split_names import split_of
from vitsmith.data.sets.split_record import Contents, SplitRecord, distinct, read_contents
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.evaluation import match_classes
from vitsmith.evaluation.held_out import (
    Asked,
    EvaluationSet,
    OnImages,
    ask,
    choose,
    evaluation_set_of,
    ignore,
    is_divided,
    look,
)
from vitsmith.weights.bundle.bundle import Bundle

_FRACTION = 0.2  # share of new images that evaluate where the other new images train; as in training


@dataclass(frozen=True, eq=False)
class Division:
    """Training or calibration images, and evaluation images. No image is in both parts."""

    training: Samples
    evaluation_set: EvaluationSet
    known: tuple[Contents, Contents] | None = None
    """Contents of both parts, where they were read already."""

    def record(self, bundle: Bundle, on_images: OnImages = ignore) -> SplitRecord:
        """The split record of a model that is trained on from `bundle` with `training`, the others held out."""
        return grown_record(bundle, self.training, self.evaluation_set.samples, self.known, on_images)


def divide(
    bundle: Bundle,
    data: DataSpec | str,
    *,
    seed: int,
    split: str = "",
    on_images: OnImages = ignore,
    tell: Tell | None = None,
) -> Division:
    """Divides a data set into training or calibration images and evaluation images.

    A bundle with a split record is evaluated on the images that were held out in its training and on new ones, and
    learns from those that it was trained on. Where most images are new, a fifth of the new ones evaluate and the others
    train, by a hash of their names and `seed`. For a bundle without a record, `open_dataset` makes the split. A `split`
    that is given is the part that evaluates.

    `tell` and errors are as for `open_dataset` and `choose`; also raises DatasetError for classes that the model does
    not know, and InputError for a split that holds the training images.
    """
    if split == ALL or split_of(split) == "train":
        raise InputError(f"`split` {split} holds training or calibration images: choose val or test")
    described = DataSpec(path=data) if isinstance(data, str) else data
    source = find_source(described.path, described)
    divided = is_divided(source)
    if bundle.split is not None and not divided and not split:
        asked = Asked(training_part(telling(source, tell))(), described.path, "", divided=False)
        match_classes(bundle, asked.samples)  # before an image is read
        return _by_record(bundle, asked, seed, on_images)
    splits = open_dataset(described, seed=seed, tell=tell)
    asked = ask(described, split) if split else Asked(splits.val, described.path, "", divided)
    for part in (splits.train, asked.samples):
        match_classes(bundle, part)
    evaluation_set = choose([bundle], asked, on_images=on_images)
    if not split and not evaluation_set.what:
        evaluation_set = replace(evaluation_set, what="held-out images")
    if bundle.split is None:
        return Division(splits.train, evaluation_set)
    kept = ~look(splits.train, [bundle], on_images).held_out
    return Division(splits.train.select(np.flatnonzero(kept)), evaluation_set)


def grown_record(
    bundle: Bundle,
    training: Samples,
    evaluation_set: Samples,
    known: tuple[Contents, Contents] | None = None,
    on_images: OnImages = ignore,
) -> SplitRecord:
    """The split record of `bundle` with more images added; reads the images unless their contents are `known`."""
    began = bundle.split or SplitRecord.empty(complete=not bundle.trained_here)
    if known is None:
        known = (
            read_contents(training, began.salt, on_images=on_images),
            read_contents(evaluation_set, began.salt, on_images=on_images),
        )
    trained_on, held_out = known
    return began.adding(train=distinct(trained_on), held_out=distinct(held_out))


def _by_record(bundle: Bundle, asked: Asked, seed: int, on_images: OnImages) -> Division:
    """A data set without splits of its own, divided as the bundle's record says."""
    samples = asked.samples
    roles = look(samples, [bundle], on_images)
    trained, new = int(roles.trained.sum()), roles.new
    if trained >= new.sum():
        trains = roles.trained
        told = f"{trained:,} images that the model was trained on are for training or calibration"
    else:  # most images are new, so this is hardly the data that it was trained on
        trains = roles.trained | (new & ~_some_of_each_class(samples, new, seed))
        told = f"{int(trains.sum()):,} others are for training or calibration"
    if trains.all():
        raise DatasetError(
            f"all {len(samples):,} images of {asked.name} were used to train the model, so none is left to "
            "evaluate on: add images that it has not seen"
        )
    training, rest = np.flatnonzero(trains), np.flatnonzero(~trains)
    known = roles.contents.at(training), roles.contents.at(rest)
    return Division(samples.select(training), evaluation_set_of(asked, roles, ~trains, told, ()), known)


def _some_of_each_class(samples: Samples, chosen: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """A fifth of each class's `chosen` images, by their names and `seed`: at least one, but not all of two or more."""
    some = np.zeros(len(samples), np.bool_)
    indices = np.flatnonzero(chosen)
    order = indices[np.argsort(samples.labels[indices], kind="stable")]
    for group in np.split(order, np.flatnonzero(np.diff(samples.labels[order])) + 1):
        members = sorted(group.tolist(), key=lambda index: place_of(samples.names[index], seed))
        some[members[: min(max(round(_FRACTION * len(members)), 1), len(members) - 1)]] = True
    return some
