"""The rule for which files of a folder are its images, the same for data sets and for every verb that takes a folder.

Images are the files in the folder and all folders below whose suffix is that of an image, in upper or lower case,
sorted by path. Skipped are hidden files and folders (`.git`, `._photo.jpg` of macOS, `.ipynb_checkpoints`), and the
folders that systems keep for themselves (`__MACOSX`, `@eaDir`). Links to files are followed; links to folders are not,
because they may lead in a circle. A listed file may still turn out not to be an image: reading it tells.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from vitsmith.data.images.read import IMAGE_SUFFIXES
from vitsmith.errors import DatasetError

SYSTEM_FOLDERS = frozenset(
    ("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found")
)
"""Folders of macOS, Synology, QNAP, Windows and Linux, in lower case. They hold thumbnails and deleted files."""
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd", ".xcf", ".pdf", ".tga", ".ico",
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".exr", ".dcm", ".mp4", ".mov",
)  # fmt: skip
"""Suffixes of picture files that are not read, whatever their content: `not_images.py` says what to do with each."""


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The images in a folder and in all folders below it, sorted. No file is opened. Raises DatasetError."""
    return sorted(_walk(Path(folder)))


class Survey(NamedTuple):
    """The content of a folder and of all folders below it."""

    images: list[Path]
    """Sorted."""
    unread: Counter[str]
    """The number of pictures in formats that are not read, by suffix; '' counts files without a suffix."""
    links: int
    """The number of links to folders, which are not followed."""


def survey(folder: str | os.PathLike[str]) -> Survey:
    """The images, as in `list_images`, and counts of what is skipped. No file is opened. Raises DatasetError."""
    images: list[Path] = []
    unread = Counter[str]()
    links = 0
    for here, folders, names in _folders(Path(folder)):
        links += sum(os.path.islink(os.path.join(here, inner)) for inner in folders)  # noqa: PTH114, PTH118
        for name in names:
            if is_image(name):
                images.append(Path(here, name))
            elif not name.startswith("."):
                unread[os.path.splitext(name)[1].lower()] += 1  # noqa: PTH122 - a million of them
    kept = {suffix: unread[suffix] for suffix in (*UNREAD_SUFFIXES, "") if unread[suffix]}
    return Survey(sorted(images), Counter(kept), links)


def tell_unread(unread: Mapping[str, int]) -> str:
    """'2 .heic, 1 without a suffix'; empty for none."""
    return ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in unread.items())


def holds_images(folder: Path) -> bool:
    """Whether there is an image in the folder or below. Raises DatasetError."""
    return next(_walk(folder), None) is not None


def count_loose(folder: Path) -> int:
    """The number of images directly in a folder. Raises DatasetError."""
    return sum(is_image(entry.name) and not leads_to_folder(entry) for entry in entries_of(folder))


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is hidden or belongs to the system, and so is not the user's data."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _walk(folder: Path) -> Iterator[Path]:
    return (Path(here, name) for here, _, names in _folders(folder) for name in names if is_image(name))


def _folders(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield (folder, names of folders, names of files) for a folder and all folders below it."""
    for here, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_passed_over(name)]
        yield here, folders, names


def is_image(name: str) -> bool:
    """Whether a file of this name is an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def entries_of(folder: Path) -> list[os.DirEntry[str]]:
    """The files and folders directly in a folder. Raises DatasetError."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DatasetError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions") from error
