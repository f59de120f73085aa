"""Decide which folders of a data set are splits, which are classes, and which are neither."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from vitsmith.data.images.files import (
    count_loose,
    entries_of,
    holds_images,
    is_image,
    is_passed_over,
    leads_to_folder,
)
from vitsmith.data.sets.split_names import SPLIT_NAMES, list_names, split_of, split_words
from vitsmith.errors import DatasetError
from vitsmith.names import normal

_WORD_OF_SPLIT = re.compile(rf"({'|'.join(sorted(SPLIT_NAMES, key=len, reverse=True))})|\d")


class FolderSplits(NamedTuple):
    """The folders that hold the class folders of each split, and remarks for the user."""

    parts: dict[str, Path]
    remarks: tuple[str, ...]


def find_splits(folder: Path, inside: Sequence[Path]) -> FolderSplits | None:
    """The folders that are splits; None when all are classes. Raises DatasetError when this is not clear."""
    named = _named(inside)
    places = _unwrapped(named)
    divided = [place for place in named if holds_class_folders(places[place])]
    flat = [place for place in named if place not in divided and count_loose(places[place])]
    with_images = [place for place in inside if place not in named and holds_images(place)] if named else []
    if not divided:
        if with_images and len(flat) < 2:
            return None
        if flat:
            example = next((place for place in flat if _split(place) == "train"), flat[0]) / "cat"
            remedy = f"put the images of each class into a folder of its own, as {example}, or list them in a table"
            if with_images:
                remedy += ", or rename what is a class"
            raise DatasetError(f"{folder} has the splits {name_places(flat)} without class folders in them: {remedy}")
        return None
    _check_company(folder, {place: places[place] for place in divided}, flat, with_images)
    _check_named(folder, named, divided, flat)
    others = [place for place in inside if place not in named]
    return _as_splits({place: places[place] for place in divided}, flat, others)


def _check_company(folder: Path, divided: Mapping[Path, Path], flat: Sequence[Path], others: Sequence[Path]) -> None:
    """Refuse folders with images beside splits, when they may be splits with another name, or classes."""
    several = len({_split(place) for place in (*divided, *flat)}) > 1
    classes = set[str]().union(*map(_class_names, divided.values()))
    deep = [place for place in others if classes & _class_names(place)]
    if several and deep:
        raise DatasetError(
            f"{folder} has {name_places(deep)} beside the splits {name_places([*divided])}, with class folders too: "
            "rename what is a split (train, val, test), and move away the others"
        )
    if not several and len(divided) == 1 and others:
        one = next(iter(divided))
        raise DatasetError(
            f"{one} holds folders of images, and beside it {name_places(others)} {_hold(others)} images: if "
            f"{one.name!r} is a split, move the others away or give {one} (other splits are called train, val, test); "
            "if it is a class, put its images directly into it"
        )


def _check_named(folder: Path, named: Sequence[Path], divided: Sequence[Path], flat: Sequence[Path]) -> None:
    for split in dict.fromkeys(_split(place) for place in named):
        same = [place for place in named if _split(place) == split]
        if len(same) > 1:
            raise DatasetError(
                f"{folder} has {name_places(same)}, which are names for one split ({split}): join, rename or remove one"
            )
    for place in named:
        if place in flat and _split(place) != "test":
            raise DatasetError(
                f"{place} holds images but no class folders, as the other splits do: put the images of each class into "
                "a folder of its own"
            )
        if place not in flat and place not in divided:
            raise DatasetError(f"the split {place} has no images: fill or remove the folder")


def _as_splits(divided: Mapping[Path, Path], flat: Sequence[Path], others: Sequence[Path]) -> FolderSplits:
    remarks = [f"{place} has no class folders, so its images have no labels: it is skipped" for place in flat]
    parts = {_split(place): at for place, at in divided.items()}
    known = _class_names(parts["train"]) if "train" in parts else set()
    if known and "test" in parts and len(one := _class_names(parts["test"])) == 1 and not one & known:
        remarks.append(f"{parts['test']} holds only {one.pop()!r}, which is not a class of training: it is skipped")
        del parts["test"]
    for place, at in divided.items():
        if at != place and at in parts.values():
            remarks.append(f"the classes of {place} are in {at}")
    if others:
        remarks.append(f"skipped, because they are not splits: {', '.join(str(place) for place in others)}")
    return FolderSplits(parts, tuple(remarks))


def _named(inside: Sequence[Path]) -> list[Path]:
    """The folders that have the name of a split."""
    if any(split_of(place.name) for place in inside):
        return [place for place in inside if split_of(place.name.rstrip("0123456789"))]
    return _named_by_a_word(inside)


def _named_by_a_word(inside: Sequence[Path]) -> list[Path]:
    """Folders such as 'seg_train' and 'seg_test', or 'train2017' and 'val2017': several splits, all with class folders.

    Where no other folder has images, some of them may hold images directly. A class may have such a word in its name
    too: 'bullet train'. So the names of folders without class folders must differ in that word only.
    """
    named = [place for place in inside if _split(place) and holds_images(place)]
    if len({_split(place) for place in named}) < 2:
        return []
    divided = [place for place in named if holds_class_folders(place)]
    if len(divided) == len(named):
        return named
    alone = not any(holds_images(place) for place in inside if place not in named)
    alike = len({_WORD_OF_SPLIT.sub("", place.name.lower()) for place in named}) == 1
    return named if alone and alike else []


def _unwrapped(named: Sequence[Path]) -> dict[Path, Path]:
    """The folder with the classes of each split: its only folder, when that has the split's name or is 'images'.

    Archives are often unpacked so: 'seg_train/seg_train/cat'.
    """
    places = {}
    for place in named:
        filled = [inner for inner in subfolders(place) if holds_images(inner)]
        same = len(filled) == 1 and (_split(filled[0]) == _split(place) or filled[0].name.lower() == "images")
        places[place] = filled[0] if same and not count_loose(place) else place
    return places


def _split(place: Path) -> str:
    """The split that a folder's name, or one word of it, means."""
    words = {split_of(word) for word in split_words(place.name)}
    return split_of(place.name) or (words.pop() if len(words) == 1 else "")


def check_depth(folder: Path, classes: Sequence[Path]) -> None:
    """Refuse class folders with splits inside: the images of all splits would be taken as one part."""
    for place in map(_only_folders, classes):
        below = [inner for inner in subfolders(place) if split_of(inner.name) and holds_images(inner)]
        if len({split_of(inner.name) for inner in below}) < 2:
            continue
        if any(holds_class_folders(inner) for inner in below):
            raise DatasetError(f"the splits {name_places(below)} are in {place}, not in {folder}: give {place}")
        raise DatasetError(
            f"{place} is divided into {name_places(below)} inside a class: put the splits above the classes, as "
            f"{folder / below[0].name / place.name}"
        )


def _only_folders(folder: Path) -> Path:
    """The folder, or its only folder, or the only one in that: unpacked archives often add a folder of their name."""
    for _ in range(4):  # a link may lead back
        inner = subfolders(folder)
        if count_loose(folder) or len(inner) != 1:
            break
        folder = inner[0]
    return folder


def holds_class_folders(folder: Path) -> bool:
    """Whether a folder inside this one holds images."""
    return any(holds_images(place) for place in subfolders(folder))


def _class_names(folder: Path) -> set[str]:
    return {normal(place.name) for place in subfolders(folder) if holds_images(place)}


def name_places(places: Sequence[Path]) -> str:
    """The names of a few folders, or their number."""
    return list_names(place.name for place in places[:4]) if len(places) < 5 else f"{len(places)} folders"


def _hold(places: Sequence[Path]) -> str:
    return "holds" if len(places) == 1 else "hold"


def subfolders(folder: Path) -> list[Path]:
    """The folders and links to folders directly inside a folder, sorted. Raises DatasetError.

    Hidden folders and those of the system are left out, and so is `runs` when it holds results of vitsmith.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        there = os.path.lexists(folder)
        told = _no_folder(folder) if there else "does not exist: check the path"
        raise DatasetError(f"the data set {folder} {told}")
    inside = (
        folder / entry.name for entry in entries_of(folder) if not is_passed_over(entry.name) and leads_to_folder(entry)
    )
    return sorted(place for place in inside if not _holds_runs(place))


def _holds_runs(folder: Path) -> bool:
    """Whether a folder holds results of vitsmith, from a user who worked inside the data set."""
    return folder.name == "runs" and any(next(folder.glob(f"{runs}/command.txt"), None) for runs in ("*", "*/*"))


def _no_folder(file: Path) -> str:
    if file.suffix.lower() in (".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst"):
        return "is an archive: unpack it and give the folder"
    if file.suffix.lower() in (".parquet", ".arrow"):
        return f"is a file of Hugging Face: give its folder, as hf:{file.parent}"
    return "is not a kind of file that is supported: give a folder of class folders, or a table as .csv, .tsv or .jsonl"


def check_links(folder: Path) -> None:
    """Raise DatasetError for a broken link: its class or split would be missing without a message.

    Broken links to images are reported when they are read.
    """
    for entry in entries_of(folder):
        broken = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
        if broken and not is_passed_over(entry.name) and not is_image(entry.name):
            raise DatasetError(f"{folder / entry.name} is a broken link: repair or remove it")
