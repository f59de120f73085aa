"""A data set of Hugging Face `datasets`: 'hf:OWNER/NAME', 'hf:OWNER/NAME:CONFIG', or 'hf:./folder' for one on disk.

Images are kept as encoded bytes until they are used, and are decoded by vitsmith's own reader, like all others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.images.sources import ImageSource
from vitsmith.data.sets.hub_address import hub_name
from vitsmith.data.sets.samples import Lazy, Samples, Source, label_positions, sort_classes
from vitsmith.data.sets.split_names import list_names, split_of
from vitsmith.errors import DatasetError, ImageError, MissingPackageError
from vitsmith.names import normal, repeated_names

_LABEL_COLUMNS = ("label", "labels", "class")


def find_hub(spec: str, *, image_column: str = "", label_column: str = "") -> Source:
    """The splits of 'hf:OWNER/NAME', 'hf:OWNER/NAME:CONFIG' or 'hf:FOLDER'.

    A split whose labels are all kept secret is left out. Classes are the names of a ClassLabel, or else the distinct
    values of the label column as text. Without `image_column` or `label_column`, the only column of that kind is taken.

    Raises MissingPackageError without `datasets`, and DatasetError for what cannot be found or has no such columns.
    """
    found = _load(spec)
    chosen = _named_splits(found, spec)
    if not chosen and len(found) == 1:
        chosen = {"": next(iter(found.values()))}  # the only split is taken, whatever its name
    if not chosen:
        names = ", ".join(map(str, found))
        raise DatasetError(f"{spec} has the splits {names}, and none called train, validation or test: save one so")
    remarks = [
        f"{spec} has the split {str(name)!r}, which is none of train, validation and test: it is skipped"
        for name in found
        if "" not in chosen and not split_of(str(name))
    ]
    parts: dict[str, Callable[[], Samples]] = {}
    for split, data in chosen.items():
        columns = _columns(data, image_column, label_column, spec)
        if split != "test" or not _is_secret(data, columns[1]):
            parts[split] = partial(_samples, data, *columns, f"{spec}/{split}" if split else spec)
        else:
            remarks.append(f"the split 'test' of {spec} has no labels: it is skipped")
    name = _name(spec).rstrip("/").rsplit("/", 1)[-1].replace(":", "-")
    return Source(name, spec, parts, tuple(remarks))


def _named_splits(found: Mapping[Any, Any], spec: str) -> dict[str, Any]:
    """The parts that have the name of a split. Raises DatasetError when two names mean the same split."""
    chosen: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        names = [name for name in found if split_of(str(name)) == split]
        if len(names) > 1:
            raise DatasetError(
                f"{spec} has {list_names(map(str, names))}, which are names for one split ({split}): save it with one"
            )
        if names:
            chosen[split] = found[names[0]]
    return chosen


def _name(spec: str) -> str:
    """The name behind the prefix."""
    return hub_name(spec) or ""


def _load(spec: str) -> Mapping[Any, Any]:
    name = _name(spec)
    if not name:
        raise DatasetError(f"{spec} names no data set: write hf:OWNER/NAME, hf:OWNER/NAME:CONFIG or hf:./FOLDER")
    is_path = name.startswith((".", "~")) or Path(name).is_absolute()
    if is_path and not Path(name).is_dir():
        raise DatasetError(f"there is no folder {name} (of {spec}): check the path")
    if not is_path:
        _check_hub_name(spec, name.partition(":")[0])
    try:
        import datasets
    except ImportError:
        raise MissingPackageError("datasets", "datasets") from None
    try:
        if is_path:
            saved = any((Path(name) / file).is_file() for file in ("dataset_dict.json", "state.json"))
            loaded = datasets.load_from_disk(name) if saved else datasets.load_dataset(name)
        else:
            repository, _, config = name.partition(":")
            loaded = datasets.load_dataset(repository, config or None)
    except Exception as error:  # the package passes on the errors of pyarrow, fsspec and the network
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise DatasetError(
            f"cannot load {spec}: {reason}; check the name, the network, or give a saved folder"
        ) from error
    return loaded if isinstance(loaded, Mapping) else {"": loaded}


def _check_hub_name(spec: str, name: str) -> None:
    """Raises DatasetError for a name without an owner, and for one of a folder here, which the package would take."""
    folder = f"; for the folder {name} here write hf:./{name}" if Path(name).is_dir() else ""
    if "/" not in name:
        raise DatasetError(
            f"{spec} lacks the owner of the data set: write hf:OWNER/NAME, or hf:OWNER/NAME:CONFIG{folder}"
        )
    if folder:
        raise DatasetError(
            f"{spec} names a data set of Hugging Face, and there is a folder {name} here, which would be read in its "
            f"place: run this in another folder{folder}"
        )


def _columns(data: Any, image_column: str, label_column: str, spec: str) -> tuple[str, str]:
    """Names of the columns of images and labels."""
    import datasets

    features = data.features
    images = [name for name, feature in features.items() if _holds_images(feature)]
    labels = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    labels = labels or [name for name in _LABEL_COLUMNS if name in features][:1]
    mistakes = []
    for kind, option, asked, fitting, allowed in (
        ("images", "image_column", image_column, images, images),
        ("labels", "label_column", label_column, labels, list(features)),
    ):
        if (asked and asked not in allowed) or (not asked and len(fitting) != 1):
            told = f"no column {asked!r}" if asked else f"{len(fitting) or 'no'} columns"
            mistakes.append(f"has {told} of {kind}: name one with {option}")
    if mistakes:
        listed = ", ".join(f"{name!r}" for name in features)
        raise DatasetError(f"{spec} {'; and it '.join(mistakes)} (its columns are {listed})")
    return image_column or images[0], label_column or labels[0]


def _holds_images(feature: Any) -> bool:
    """Whether a feature is an Image, or the bytes and path that a Parquet file without the package's notes has."""
    import datasets

    return isinstance(feature, datasets.Image) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _samples(data: Any, image_column: str, label_column: str, where: str) -> Samples:
    import datasets

    classes, labels = _labels(data, label_column, where)
    images = data.select_columns([image_column]).cast_column(image_column, datasets.Image(decode=False))

    def read(index: int) -> ImageSource:
        image = images[index][image_column] or {}
        if image.get("bytes") is None and not image.get("path"):
            raise ImageError(f"{where}/{index}: has no image in {image_column!r}; remove the row")
        return image["path"] if image.get("bytes") is None else image["bytes"]

    return Samples(classes, Lazy(len(labels), read), [f"{where}/{index}" for index in range(len(labels))], labels)


def _labels(data: Any, column: str, where: str) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    values = _values(data, column)
    unlabelled = [index for index, value in enumerate(values) if value is None or value == -1]
    if unlabelled:
        raise DatasetError(
            f"{where} has {len(unlabelled):,} of {len(values):,} rows without a label in {column!r}, "
            f"the first is row {unlabelled[0]}: remove them or choose another split"
        )
    names = getattr(data.features[column], "names", None)
    if names is not None:
        classes = tuple(normal(name) for name in names)
        if twins := repeated_names(classes):
            raise DatasetError(
                f"{where} has two classes {twins[0]!r} in {column!r}: rename one, or make them one class"
            )
        return classes, np.asarray(values, np.int64)
    if not all(isinstance(value, str | int) for value in values):
        raise DatasetError(
            f"{where} has labels in {column!r} that are neither text nor whole numbers: name the classes"
        )
    texts = [str(value) for value in values]
    classes = sort_classes(texts)
    return classes, label_positions(texts, classes)


def _is_secret(data: Any, column: str) -> bool:
    """Whether every label of a split is missing or -1, as in many test splits."""
    return all(value is None or value == -1 for value in _values(data, column))


def _values(data: Any, column: str) -> list[Any]:
    values: list[Any] = data.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    return values
