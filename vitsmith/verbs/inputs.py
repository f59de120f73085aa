"""Reads what verbs are given: a model, a data set, bounds; chooses evaluation images; passes messages on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

from vitsmith.arguments import Tell, instance
from vitsmith.data.images.sources import ImageSource
from vitsmith.data.sets.datasets import DataSpec, check_there
from vitsmith.data.sets.samples import Samples, samples_of
from vitsmith.errors import InputError
from vitsmith.evaluation.held_out import Asked, EvaluationSet, ask, choose
from vitsmith.gate import Requirements
from vitsmith.models.presets import name_of
from vitsmith.runs.place import model_name
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import LOADABLE

Model = Bundle | str | os.PathLike[str]
"""A bundle, or anything `vitsmith.load` takes."""
Data = str | os.PathLike[str] | DataSpec | Samples | Iterable[tuple[ImageSource, str]]
"""A labelled data set: its path, a description of it, samples, or pairs of an image and the name of its class."""
Choose = Callable[[Sequence[Bundle], Asked], EvaluationSet]
"""Chooses the evaluation images among those that were asked for: see `held_out.choose`."""


def run_name(model: Model) -> str:
    """The name for a run of a model: that of its file or folder, or, for a bundle in memory, its architecture."""
    if isinstance(model, Bundle):
        return model_name(str(model.folder)) if model.folder else name_of(model.config) or model.config.family
    return model_name(os.fsdecode(instance(model, (str, os.PathLike), "what is loaded", LOADABLE)))


def is_data(data: Data) -> bool:
    return bool(data.path) if isinstance(data, DataSpec) else not isinstance(data, str) or bool(data)


def described_data(data: str | os.PathLike[str] | DataSpec) -> DataSpec:
    """The description of a data set. Raises InputError for anything but a path or a description."""
    if isinstance(data, DataSpec):
        return data
    return DataSpec(path=os.fsdecode(instance(data, (str, os.PathLike), "data", "a path or a DataSpec")))


def check_data(data: Data) -> None:
    """Raises DatasetError, before a model is opened for it, for a data set at a path where nothing is."""
    if isinstance(data, str | os.PathLike | DataSpec) and is_data(data):
        check_there(described_data(data).path)


def asked_of(data: Data, split: str, tell: Tell) -> Asked:
    """The images of a data set, or the samples themselves. Raises InputError for a split of samples: they have none."""
    if isinstance(data, str | os.PathLike | DataSpec):
        return ask(described_data(data), split, tell=tell)
    if split:
        raise InputError(f"split {split!r} is a part of a data set on disk: give only the samples to evaluate on")
    samples = data if isinstance(data, Samples) else samples_of(data)
    return Asked(samples, f"{len(samples):,} samples", "", divided=False)


def check_bounds(asked: Requirements, labelled: bool) -> None:
    """Raises InputError for bounds that would have no effect, with labelled images or without."""
    asked.check_labels(labelled)
    if asked.accuracy_drop is not None and not labelled:
        raise InputError("`max_drop` is measured on labelled images: give some with `data`, or leave it out")
    if asked.agreement is not None and labelled:
        raise InputError("`min_agreement` is for images without labels: on `data` accuracy decides, use `max_drop`")


def choosing(tell: Tell) -> Choose:
    """`held_out.choose`, whose messages go to `tell`."""

    def chosen(bundles: Sequence[Bundle], asked: Asked) -> EvaluationSet:
        evaluation_set = choose(bundles, asked)
        for told in evaluation_set.told:
            tell(told)
        return evaluation_set

    return chosen


def left_out(tell: Tell) -> Tell:
    return lambda complaint: tell(f"left out: {complaint}")
