"""A data set that is a folder on disk: one sub-folder for each class, named as the class.

    pets/cat/*.jpg          or    pets/train/cat/*.jpg
    pets/dog/*.jpg                pets/train/dog/*.jpg
                                  pets/val/cat/*.jpg      (or another name for it, see split_names.py)
                                  pets/val/dog/*.jpg
                                  pets/test/...           (optional)

Everything that is wrong with the folders is reported before any work starts.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vitsmith.data.images.files import Survey, count_loose, survey, tell_unread
from vitsmith.data.images.read import IMAGE_SUFFIXES
from vitsmith.data.sets.folder_layout import (
    check_depth,
    check_links,
    find_splits,
    holds_class_folders,
    name_places,
    subfolders,
)
from vitsmith.data.sets.samples import Samples, Source, list_classes
from vitsmith.data.sets.split_names import list_names, split_of
from vitsmith.errors import DatasetError
from vitsmith.names import normal, repeated_names

_FOLD = re.compile(r"(k?folds?|cv)[\s_-]*\d+", re.IGNORECASE)


def find_folder(path: str | os.PathLike[str], *, alone: bool = True) -> Source:
    """The splits in a folder, or the folder itself when it has none.

    Folders with the name of a split are splits when they hold class folders. One that holds its images directly, beside
    other folders with images, is a class: `train` among `bus` and `car`. A folder that could be either is refused.
    Folders beside splits that hold no class folders are skipped, with a remark. A remark also says when the folder is
    one of several splits and is the only one given (`alone`). Raises DatasetError.
    """
    folder = Path(path)
    name = folder.name or folder.resolve().name
    inside = subfolders(folder)
    check_links(folder)
    splits = find_splits(folder, inside)
    if splits is None:
        check_depth(folder, inside)
        remarks = (*_loose(folder), *_classes_called_as_splits(folder, inside))
        if alone:
            remarks += _beside(folder)
        return Source(name, str(folder), {"": partial(read_class_folders, folder)}, remarks)
    remarks = tuple(note for place in (folder, *splits.parts.values()) for note in _loose(place))
    parts = {split: partial(read_class_folders, place) for split, place in splits.parts.items()}
    return Source(name, str(folder), parts, (*splits.remarks, *remarks))


def read_class_folders(path: str | os.PathLike[str]) -> Samples:
    """The images in a folder of class folders, ordered by class and then by name. No image is opened.

    An image may lie in further folders inside its class folder. Files beside the class folders are skipped, and so is
    what `list_images` skips. Links to images and to class folders are followed; links to folders deeper down are not.

    Raises DatasetError for a path that is not a folder, a folder without class folders, and a class without images.
    """
    folder = Path(path)
    folders = sorted(subfolders(folder), key=lambda entry: normal(entry.name))
    classes = tuple(normal(entry.name) for entry in folders)
    check_links(folder)
    if not classes:
        raise DatasetError(f"{folder} needs one sub-folder for each of at least 2 classes, and has none")
    if twins := repeated_names(classes):
        raise DatasetError(
            f"{folder} has two folders {twins[0]!r} whose names look the same and are encoded differently (Unicode NFC "
            "and NFD, as after copying from macOS): they are one class; put the images of both into one of them"
        )
    found = [survey(entry) for entry in folders]
    unread = tell_unread(sum((one.unread for one in found), start=Counter[str]()))
    empty = [name for name, one in zip(classes, found, strict=True) if not one.images]
    if empty:
        instead = f", but {unread}, which are not supported" if unread else ""
        raise DatasetError(
            f"{folder} has no images for {list_classes(empty)}{instead}: fill or remove the folder "
            f"(images are files that end in {', '.join(IMAGE_SUFFIXES)})"
        )
    files = [file for one in found for file in one.images]
    remarks = list[str]()
    if unread:
        remarks.append(f"skipped in {folder}, as these files are not supported: {unread}")
    if links := sum(one.links for one in found):
        remarks.append(f"links to folders inside the class folders of {folder} are not followed: there are {links:,}")
    return Samples(
        classes=classes,
        sources=files,
        names=[file.relative_to(folder).as_posix() for file in files],
        labels=np.repeat(np.arange(len(classes), dtype=np.int64), [len(one.images) for one in found]),
        remarks=(*remarks, *_divided_classes(folder, folders, found)),
    )


def _divided_classes(folder: Path, classes: Sequence[Path], found: Sequence[Survey]) -> tuple[str, ...]:
    """A remark on classes whose images all lie in several folders further inside: those folders may be the classes.

    Raises DatasetError for folders such as 'fold1' and 'fold2', which are not classes.
    """
    inner = [_folders_inside(place, one.images) for place, one in zip(classes, found, strict=True)]
    if not all(len(names) > 1 for names in inner):
        return ()
    shown = list_names(list(dict.fromkeys(itertools.chain.from_iterable(inner)))[:4])
    if len(classes) > 1 and all(_FOLD.fullmatch(place.name) for place in classes):
        raise DatasetError(
            f"{folder} is divided into {name_places(classes)}, each with class folders: folds are not classes; put the "
            f"images of each class into a folder of its own, or list them in a table with the column 'split'"
        )
    way = f"give {classes[0]}" if len(classes) == 1 else f"move them up into {folder}"
    is_or_are = "class is" if len(classes) == 1 else "classes are"
    return (f"the {is_or_are} {name_places(classes)}: if the folders inside ({shown}) are the classes, {way}",)


def _folders_inside(place: Path, images: Sequence[Path]) -> list[str]:
    """The folders inside a class folder that hold its images; none when some images lie directly in it."""
    depth = len(place.parts)
    if any(len(image.parts) == depth + 1 for image in images):
        return []
    return list(dict.fromkeys(image.parts[depth] for image in images))


def _loose(folder: Path) -> tuple[str, ...]:
    count = count_loose(folder)
    return (f"{count:,} images lie directly in {folder}, in no class folder, and are skipped",) if count else ()


def _classes_called_as_splits(folder: Path, classes: Sequence[Path]) -> tuple[str, ...]:
    named = [place for place in classes if split_of(place.name)]
    if not named:
        return ()
    way = "if they are splits, move them" if len(named) > 1 else "if it is a split, move it"
    return (f"{name_places(named)} in {folder} {'are' if len(named) > 1 else 'is'} taken as a class: {way} away",)


def _beside(folder: Path) -> tuple[str, ...]:
    """A remark on evaluation images that are not used, when the folder is the training split beside others."""
    whole = folder.absolute().parent
    if split_of(folder.name) != "train":
        return ()
    try:
        siblings = [place for place in subfolders(whole) if split_of(place.name) in ("val", "test")]
        others = [place for place in siblings if holds_class_folders(place)]
    except DatasetError:
        return ()
    if not others:
        return ()
    return (f"{folder} stands beside {name_places(others)}, which are not used: give {whole} to use them",)
