"""A data set that is a folder on disk: one sub-folder for each class, named as the class.

    pets/cat/*.jpg          or    pets/train/cat/*.jpg
    pets/dog/*.jpg                pets/train/dog/*.jpg
                                  pets/val/cat/*.jpg      ('validation' will do)
                                  pets/val/dog/*.jpg
                                  pets/test/...           (perhaps)

Everything that can be wrong with the folders is told before any work starts.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import NoReturn

import numpy as np

from vitsmith.data.images import IMAGE_SUFFIXES
from vitsmith.data.samples import SPLIT_NAMES, Samples, Source, list_classes
from vitsmith.errors import DatasetError


def find_folder(path: str | os.PathLike[str]) -> Source:
    """The splits in a folder, or the folder itself when it has none.

    They are splits when there is a `train` folder and one of `val`, `validation` and `test`, or when there is nothing
    but these; otherwise the folders are classes, and one of them may bear such a name. Raises DatasetError.
    """
    folder = Path(path)
    names = [entry.name for entry in subfolders(folder)]
    known = {SPLIT_NAMES[name]: name for name in names if name in SPLIT_NAMES}
    name = folder.name or folder.resolve().name
    if not known or (len(known) < len(names) and not ("train" in known and len(known) > 1)):
        return Source(name, str(folder), {"": partial(read_class_folders, folder)})
    if sum(name in SPLIT_NAMES for name in names) > len(known):
        raise DatasetError(f"{folder} has both 'val' and 'validation': rename or remove one of them")
    return Source(
        name, str(folder), {split: partial(read_class_folders, folder / name) for split, name in known.items()}
    )


def read_class_folders(path: str | os.PathLike[str]) -> Samples:
    """The images in a folder of class folders, ordered by class and then by name. No image is opened.

    Loose files, hidden files and files without an image's suffix are passed over; an image may lie in further folders
    inside its class's. Linked images and class folders count, links deeper down do not.

    Raises DatasetError for a path that is no folder, one without class folders, and a class without images.
    """
    folder = Path(path)
    classes = tuple(entry.name for entry in subfolders(folder))
    if not classes:
        raise DatasetError(f"{folder} needs one sub-folder for each of at least 2 classes, and has none")
    images = [_images_in(folder / name) for name in classes]
    empty = [name for name, files in zip(classes, images, strict=True) if not files]
    if empty:
        raise DatasetError(
            f"{folder} has no images for {list_classes(empty)}: fill or remove the folder "
            f"(images are files that end in {', '.join(IMAGE_SUFFIXES)})"
        )
    files = [file for group in images for file in group]
    return Samples(
        classes=classes,
        sources=files,
        names=[file.relative_to(folder).as_posix() for file in files],
        labels=np.repeat(np.arange(len(classes), dtype=np.int64), [len(group) for group in images]),
    )


def subfolders(folder: Path) -> list[Path]:
    """Folders directly inside one, sorted, without hidden ones. Raises DatasetError."""
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
