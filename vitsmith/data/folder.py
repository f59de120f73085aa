"""A data set that is a folder on disk: one sub-folder for each class, named as the class.

    pets/cat/*.jpg          or    pets/train/cat/*.jpg
    pets/dog/*.jpg                pets/train/dog/*.jpg
                                  pets/val/cat/*.jpg      (or another name for it, see splits.py)
                                  pets/val/dog/*.jpg
                                  pets/test/...           (perhaps)

Everything that can be wrong with the folders is told before any work starts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vitsmith.data.image_files import check_links, count_loose, holds_images, list_images, subfolders
from vitsmith.data.images import IMAGE_SUFFIXES
from vitsmith.data.samples import Samples, Source, list_classes
from vitsmith.data.splits import list_names, split_of, split_words
from vitsmith.errors import DatasetError
from vitsmith.names import normal, repeated_names


def find_folder(path: str | os.PathLike[str]) -> Source:
    """The splits in a folder, or the folder itself when it has none.

    Folders called as splits are splits when they hold class folders. One that holds its images directly, beside other
    folders with images, is a class: `train` among `bus` and `car`. What could be either is refused. Folders beside
    splits that hold no class folders are passed over, which the remarks say. Raises DatasetError.
    """
    folder = Path(path)
    name = folder.name or folder.resolve().name
    inside = subfolders(folder)
    check_links(folder)
    splits = _find_splits(folder, inside)
    if splits is None:
        _check_depth(folder, inside)
        remarks = (*_loose(folder), *_beside(folder))
        return Source(name, str(folder), {"": partial(read_class_folders, folder)}, remarks)
    remarks = tuple(note for place in (folder, *splits.parts.values()) for note in _loose(place))
    parts = {split: partial(read_class_folders, place) for split, place in splits.parts.items()}
    return Source(name, str(folder), parts, (*splits.remarks, *remarks))


def read_class_folders(path: str | os.PathLike[str]) -> Samples:
    """The images in a folder of class folders, ordered by class and then by name. No image is opened.

    An image may lie in further folders inside its class's. Loose files are passed over, and what `list_images` passes
    over. Linked images and class folders count, links to folders deeper down do not.

    Raises DatasetError for a path that is no folder, one without class folders, and a class without images.
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
    images = [list_images(entry) for entry in folders]
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


class _Splits(NamedTuple):
    parts: dict[str, Path]
    remarks: tuple[str, ...]


def _find_splits(folder: Path, inside: Sequence[Path]) -> _Splits | None:
    """The folders that are splits; None when all of them are classes. Raises DatasetError when that is not clear."""
    named = [place for place in inside if split_of(place.name)] or _named_by_a_word(inside)
    divided = [place for place in named if _holds_class_folders(place)]
    flat = [place for place in named if place not in divided and count_loose(place)]
    with_images = [place for place in inside if place not in named and holds_images(place)] if named else []
    if not divided:
        if with_images and len(flat) < 2:
            return None
        if flat:
            remedy = f"put the images of each class into a folder of its own, as {flat[0] / 'cat'}"
            if with_images:
                remedy += ", or rename what is a class"
            raise DatasetError(f"{folder} has the splits {_names(flat)} without class folders in them: {remedy}")
        return None
    _check_company(folder, divided, with_images)
    return _as_splits(folder, named, divided, flat, [place for place in inside if place not in named])


def _check_company(folder: Path, divided: Sequence[Path], others: Sequence[Path]) -> None:
    """Refuses folders with images beside splits, when they may be splits of another name or classes."""
    deep = [place for place in others if _holds_class_folders(place)]
    if len({_split(place) for place in divided}) > 1 and deep:
        raise DatasetError(
            f"{folder} has {_names(deep)} beside the splits {_names(divided)}, with class folders too: "
            "rename what is a split (train, val, test), and move away what is none"
        )
    if len(divided) == 1 and others:
        one = divided[0]
        raise DatasetError(
            f"{one} holds folders of images, and beside it {_names(others)} {_hold(others)} images: if {one.name!r} is "
            f"a split, move the others away or give {one}; if it is a class, put its images directly into it"
        )


def _as_splits(
    folder: Path, named: Sequence[Path], divided: Sequence[Path], flat: Sequence[Path], others: Sequence[Path]
) -> _Splits:
    for split in dict.fromkeys(_split(place) for place in named):
        same = [place for place in named if _split(place) == split]
        if len(same) > 1:
            raise DatasetError(
                f"{folder} has {_names(same)}, which are names for one split ({split}): join, rename or remove one"
            )
    left_out = []
    for place in named:
        if place in flat and _split(place) != "test":
            raise DatasetError(
                f"{place} holds images but no class folders, as the other splits do: put the images of each class into "
                "a folder of its own"
            )
        if place not in flat and place not in divided:
            raise DatasetError(f"the split {place} has no images: fill or remove the folder")
        if place in flat:
            left_out.append(f"{place} has no class folders, so its images have no labels: it is left out")
    if others:
        left_out.append(f"passed over, as beside splits it is none: {', '.join(str(place) for place in others)}")
    return _Splits({_split(place): place for place in divided}, tuple(left_out))


def _named_by_a_word(inside: Sequence[Path]) -> list[Path]:
    """Folders called 'seg_train' and 'seg_test', or 'train2017' and 'val2017': several splits, with class folders all.

    A class may have such a word in its name too: 'bullet train'.
    """
    named = [place for place in inside if _split(place)]
    several = len({_split(place) for place in named}) > 1
    return named if several and all(map(_holds_class_folders, named)) else []


def _split(place: Path) -> str:
    """What a folder's name means, or one word of it."""
    words = {split_of(word) for word in split_words(place.name)}
    return split_of(place.name) or (words.pop() if len(words) == 1 else "")


def _check_depth(folder: Path, classes: Sequence[Path]) -> None:
    """Refuses class folders with splits inside, whose images would all be taken for one part."""
    for place in classes:
        below = [inner for inner in subfolders(place) if split_of(inner.name) and holds_images(inner)]
        if len({split_of(inner.name) for inner in below}) < 2:
            continue
        if any(_holds_class_folders(inner) for inner in below):
            raise DatasetError(f"the splits {_names(below)} are in {place}, not in {folder}: give {place}")
        raise DatasetError(
            f"{place} is divided into {_names(below)} inside a class: the splits come first, as "
            f"{folder / below[0].name / place.name}"
        )


def _loose(folder: Path) -> tuple[str, ...]:
    count = count_loose(folder)
    return (f"{count:,} images lie directly in {folder}, in no class folder, and are passed over",) if count else ()


def _beside(folder: Path) -> tuple[str, ...]:
    """A word on held-out images that were not given, when the folder is the training part of several."""
    whole = folder.absolute().parent
    if split_of(folder.name) != "train":
        return ()
    try:
        siblings = [place for place in subfolders(whole) if split_of(place.name) in ("val", "test")]
        others = [place for place in siblings if _holds_class_folders(place)]
    except DatasetError:
        return ()
    told = f"{folder} stands beside {_names(others)}, which are not used: give {whole} to use them" if others else ""
    return (told,) if told else ()


def _holds_class_folders(folder: Path) -> bool:
    return any(holds_images(place) for place in subfolders(folder))


def _names(places: Sequence[Path]) -> str:
    return list_names(place.name for place in places[:4]) if len(places) < 5 else f"{len(places)} folders"


def _hold(places: Sequence[Path]) -> str:
    return "holds" if len(places) == 1 else "hold"
