"""A data set that is a folder on disk: one sub-folder for each class, named as the class.

    pets/cat/*.jpg          or    pets/train/cat/*.jpg
    pets/dog/*.jpg                pets/train/dog/*.jpg
                                  pets/val/cat/*.jpg      ('validation' or 'test' will do)
                                  pets/val/dog/*.jpg

Everything that can be wrong with the folders is told before any work starts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from vitsmith.data.images import IMAGE_SUFFIXES
from vitsmith.data.samples import Samples, Splits, stratified_split
from vitsmith.errors import DatasetError

HELD_OUT = ("val", "validation", "test")  # the first that is there is used


def open_folder(path: str | os.PathLike[str], *, seed: int = 0, val_fraction: float = 0.2) -> Splits:
    """The data set in a folder.

    With a `train` folder and one of `val`, `validation` and `test`, these are the two splits, and their classes must be
    the same. Otherwise `val_fraction` of each class is held out, decided by `seed` (see `stratified_split`).

    Raises DatasetError, naming the folder, for what `read_class_folders` refuses, a class that is in one split only,
    and a class too small to be split.
    """
    folder = Path(path)
    names = {entry.name for entry in _subfolders(folder)}
    held_out = next((name for name in HELD_OUT if name in names), None)
    if "train" in names and held_out:
        train = read_class_folders(folder / "train")
        return Splits(train, read_class_folders(folder / held_out, classes=train.classes))
    if names == {"train"}:
        folder = folder / "train"
    elif held_out and names <= set(HELD_OUT):
        raise DatasetError(f"{folder} has a folder {held_out!r} but none called 'train': add it, or give {held_out!r}")
    return stratified_split(read_class_folders(folder), seed=seed, fraction=val_fraction)


def read_class_folders(path: str | os.PathLike[str], *, classes: tuple[str, ...] | None = None) -> Samples:
    """The images in a folder of class folders, ordered by class and then by name. No image is opened.

    Args:
        path: the folder. Loose files, hidden files and files without an image's suffix are passed over; an image may
            lie in further folders inside its class's. Linked images and class folders count, links deeper down do not.
        classes: names in the order of the labels; the folders must be exactly these. Default: the folders, sorted.

    Raises DatasetError for a path that is no folder, fewer than two classes, a class without images, and with
    `classes` for one that is missing or unknown.
    """
    folder = Path(path)
    found = [entry.name for entry in _subfolders(folder)]
    if classes is None:
        classes = tuple(found)
    _check_classes(folder, found, classes)
    images = [_images_in(folder / name) for name in classes]
    empty = [name for name, files in zip(classes, images, strict=True) if not files]
    if empty:
        raise DatasetError(
            f"{folder} has no images for {_listed(empty)}: fill or remove the folder "
            f"(images are files that end in {', '.join(IMAGE_SUFFIXES)})"
        )
    files = [file for group in images for file in group]
    return Samples(
        classes=classes,
        sources=files,
        names=[file.relative_to(folder).as_posix() for file in files],
        labels=np.repeat(np.arange(len(classes), dtype=np.int64), [len(group) for group in images]),
    )


def _check_classes(folder: Path, found: list[str], classes: tuple[str, ...]) -> None:
    missing = [name for name in classes if name not in found]
    if missing:
        raise DatasetError(f"{folder} has no folder for {_listed(missing)}: every split needs every class")
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DatasetError(
            f"{folder} has a folder for {_listed(unknown)}, not among the {len(classes)} known classes: "
            "rename or remove it, or add the class to training"
        )
    if len(classes) < 2:
        there = f"only one, {found[0]!r}" if found else "none"
        raise DatasetError(f"{folder} needs one sub-folder for each of at least 2 classes, and has {there}")


def _subfolders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        told = "is a file: unpack it and give the folder" if folder.exists() else "does not exist: check the path"
        raise DatasetError(f"the data set {folder} {told}")
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        _refuse(error)


def _images_in(folder: Path) -> list[Path]:
    files = []
    for here, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(here, name) for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")
        ]
    return sorted(files)


def _refuse(error: OSError) -> NoReturn:
    raise DatasetError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions") from error


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ("class " if len(names) == 1 else "classes ") + shown + more
