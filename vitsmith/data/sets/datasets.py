"""Find the images of a data set from what the user gave as its name."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from pydantic import Field

from vitsmith.arguments import Tell, named_arguments
from vitsmith.data.sets.digits import open_digits
from vitsmith.data.sets.folder import find_folder
from vitsmith.data.sets.hub import find_hub
from vitsmith.data.sets.hub_address import hub_name
from vitsmith.data.sets.labelling import CLASSES, UNLABELLED, Labelling
from vitsmith.data.sets.samples import Samples, Source, Splits, empty_classes, join, list_classes, stratified_split
from vitsmith.data.sets.shapes import labelled_shapes, unseen_shapes
from vitsmith.data.sets.shards.read import find_shards, is_shards
from vitsmith.data.sets.split_names import SPLIT_NAMES, SPLITS, split_of
from vitsmith.data.sets.tables.read import TABLE_SUFFIXES, find_table
from vitsmith.errors import DatasetError, suggestion
from vitsmith.fields import Finite, Frozen

BUILT_IN: dict[str, Callable[[], Splits]] = {"digits": open_digits, "shapes": labelled_shapes}

ALL = "all"
"""The value of `--split` for the images of all splits."""
UNSEEN = "shapes-unseen"
"""The built-in data set of drawn shapes in combinations that training does not show; for evaluation only."""


class DataSpec(Frozen):
    """The places of images and labels, and their splits."""

    path: str = Field(
        description="DATA on the command line: a folder of class folders, a .csv or .jsonl file, tar shards as "
        "'train-{00..15}.tar', "
        "'hf:OWNER/NAME' of Hugging Face, or 'digits' or 'shapes', which are built in"
    )
    val: str = Field("", description="images to evaluate on, of any kind that path may be; default: path's own split")
    val_fraction: Finite = Field(
        0.2, gt=0, lt=1, description="share of each class to hold out when there is no split of its own"
    )
    image_column: str = Field("", description="column of paths or images; default: 'path' or 'image'")
    label_column: str = Field("", description="column of class names; default: 'label'")
    skip_unreadable: Finite = Field(
        0.01, ge=0, lt=1, description="share of images that may be unreadable: reported and replaced; more stop the run"
    )


def open_dataset(
    spec: DataSpec | str, *, seed: int = 0, val_fraction: float | None = None, tell: Tell | None = None
) -> Splits:
    """Open the data set that `spec` describes, or that is at the path given, for training. No image is decoded.

    The evaluation images are the first of these that exist: those of `spec.val`; the data set's own split 'val', or
    else 'test'; `val_fraction` of each class, chosen by `seed`. Their classes are matched with those of training by
    name. 'digits' and 'shapes' are always the built-in sets; write './digits' for a folder of that name. `tell` is
    called with a remark on each thing that was found and skipped.

    Raises DatasetError for data that is missing or cannot be used, fewer than two classes, and a class that is empty or
    in one split only; MissingPackageError for 'digits' and 'hf:' without their packages.
    """
    described = _described(spec)
    if val_fraction is not None:
        described = described.model_copy(update={"val_fraction": val_fraction})
    source = telling(find_source(described.path, described), tell)
    brought = [split for split in ("val", "test") if split in source.parts]
    train = _check_training(training_part(source)(), source.where)
    if not described.val and not brought:
        return stratified_split(train, seed=seed, fraction=described.val_fraction)
    if described.val:
        if tell is not None and "val" in brought:
            tell(f"the split 'val' of {source.where} is not used: the evaluation images are those of {described.val}")
        val = _held_out(telling(find_source(described.val, described), tell), "", train.classes)
    else:
        val = _held_out(source, brought[0], train.classes)
    beside = "test" in brought and (bool(described.val) or brought[0] != "test")
    return Splits(train, val, _held_out(source, "test", train.classes) if beside else None)


@named_arguments
def open_data(data: str | os.PathLike[str] | DataSpec, split: str = "") -> Samples:
    """The images of a data set, with their labels: `sources`, `names`, `classes`, `labels`, and `image(index)`.

    `split` and errors as for `open_labelled`.
    """
    return open_labelled(data if isinstance(data, DataSpec) else os.fsdecode(data), split)[0]


def open_labelled(spec: DataSpec | str, split: str = "", *, tell: Tell | None = None) -> tuple[Samples, str]:
    """The images to evaluate a model on, and what to call them in reports.

    `split` is 'train', 'val' or 'test', or another name for one of them (see split_names.py), or 'all'. The default is
    the data set's own split 'val', or else 'test', or else every image. `tell` is called with a remark on each thing
    that was found and skipped. Raises DatasetError.
    """
    described = _described(spec)
    source = find_source(described.path if split or not described.val else described.val, described)
    return open_part(telling(source, tell), split)


def open_unlabelled(spec: DataSpec, split: str, *, tell: Tell | None = None) -> Samples:
    """As `open_labelled`, of images whose labels are not used: a table needs no column of them."""
    return open_part(telling(find_source(spec.path, spec, UNLABELLED), tell), split)[0]


def open_part(source: Source, split: str = "") -> tuple[Samples, str]:
    """One part of a data set, or all of it, and its name in reports; `split` and errors as for `open_labelled`."""
    if split == ALL:
        parts = {name: source.parts[name]() for name in ("", *SPLITS) if name in source.parts}
        return join(parts), f"{source.name}/{ALL}" if any(parts) else source.name
    if split and not split_of(split):
        raise DatasetError(f"unknown split {split!r}: {suggestion(split, (*SPLIT_NAMES, ALL))}")
    chosen = split_of(split) if split else _usual_part(source)
    if chosen not in source.parts:
        there = ", ".join(filter(None, source.parts))
        told = f"only {there}" if there else f"none of its own: leave the split out, or take every image with {ALL!r}"
        raise DatasetError(f"{source.where} has no split {split!r}, {told}")
    return source.parts[chosen](), f"{source.name}/{chosen}" if chosen else source.name


def check_there(path: str) -> None:
    """Raises DatasetError for a path where nothing is. Nothing is read: this is for before long work."""
    elsewhere = path in BUILT_IN or path == UNSEEN or hub_name(path) is not None or is_shards(path)
    if not (elsewhere or os.path.exists(path)):  # noqa: PTH110 - Path.exists raises for a name that is too long
        raise DatasetError(
            f"the data set {path!r} does not exist, and no built-in data set has this name: check the path; "
            f"{suggestion(path, (*BUILT_IN, UNSEEN))}"
        )


def find_source(path: str, spec: DataSpec, labelling: Labelling = CLASSES) -> Source:
    """The data set at `path`, whatever its kind, with the columns that `spec` names; tables are read as `labelling`."""
    if path in BUILT_IN or path == UNSEEN:
        _refuse_columns(path, spec)
    if path in BUILT_IN:
        splits = BUILT_IN[path]()
        return Source(path, path, {"train": lambda: splits.train, "val": lambda: splits.val})
    if path == UNSEEN:
        return Source(path, path, {"": unseen_shapes})
    if hub_name(path) is not None:
        return find_hub(path, image_column=spec.image_column, label_column=spec.label_column)
    if is_shards(path):
        return find_shards(path, label_key=spec.label_column)
    check_there(path)
    if Path(path).suffix.lower() in TABLE_SUFFIXES and not Path(path).is_dir():
        return find_table(path, image_column=spec.image_column, label_column=spec.label_column, labelling=labelling)
    _refuse_columns(path, spec)
    return find_folder(path, alone=not spec.val)


def _refuse_columns(path: str, spec: DataSpec) -> None:
    """Raise DatasetError when columns are named for data without columns; `spec.val` may have none beside a table."""
    if path == spec.path and (spec.image_column or spec.label_column):
        raise DatasetError(f"{path} is not a table and has no columns: leave out image_column and label_column")


def telling(source: Source, tell: Tell | None) -> Source:
    """Call `tell` with each remark of `source`, and return a source that tells those of a part when it is read."""
    if tell is None:
        return source
    for remark in source.remarks:
        tell(remark)
    return replace(source, parts={split: partial(_read_and_tell, read, tell) for split, read in source.parts.items()})


def _read_and_tell(read: Callable[[], Samples], tell: Tell) -> Samples:
    samples = read()
    for remark in samples.remarks:
        tell(remark)
    return samples


def _described(spec: DataSpec | str) -> DataSpec:
    return DataSpec(path=spec) if isinstance(spec, str) else spec


def training_part(source: Source) -> Callable[[], Samples]:
    """The function that reads the training images. Raises DatasetError when there are only evaluation images."""
    for split in ("train", ""):
        if split in source.parts:
            return source.parts[split]
    raise DatasetError(
        f"{source.where} has the split {', '.join(map(repr, source.parts))} but none called 'train': add it, "
        "or give one of these splits as the data set"
    )


def _usual_part(source: Source) -> str:
    return next(split for split in ("val", "test", "", "train") if split in source.parts)


def _held_out(source: Source, split: str, classes: tuple[str, ...]) -> Samples:
    chosen = split or _usual_part(source)
    where = f"the split {chosen!r} of {source.where}" if chosen else source.where
    return source.parts[chosen]().with_classes(classes, where)


def _check_training(train: Samples, where: str) -> Samples:
    empty = empty_classes(train)
    if empty:
        raise DatasetError(f"{where} has no images to train on for {list_classes(empty)}: add some, or remove the name")
    if len(train.classes) < 2:
        told = "; ".join(("", *train.remarks))
        raise DatasetError(f"{where} needs images of at least 2 classes, and has only one, {train.classes[0]!r}{told}")
    return train
