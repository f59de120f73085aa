"""Which files of a folder are its images: one rule for data sets and for every verb that is given a folder.

Files whose names end as images do, in any case, in all folders below, sorted by path. Passed over: hidden files and
folders (`.git`, `._photo.jpg` of macOS, `.ipynb_checkpoints`), and the folders that systems keep for themselves
(`__MACOSX`, `@eaDir`). Links to files are followed, links to folders are not: they may lead back to where they are.
What is listed may still be no image, or no file at all: reading it says what it is.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, NoReturn

from vitsmith.data.images import IMAGE_SUFFIXES
from vitsmith.errors import DatasetError

SYSTEM_FOLDERS = frozenset(
    ("__macosx", "@eadir", "#recycle", "@recycle", "$recycle.bin", "system volume information", "lost+found")
)
"""In lower case: of macOS's archives, Synology, QNAP, Windows and Linux. They hold thumbnails and deleted files."""
UNREAD_SUFFIXES = (
    ".heic", ".heif", ".jxl", ".jp2", ".svg", ".psd", ".xcf", ".pdf", ".tga", ".ico",
    ".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".exr", ".dcm", ".mp4", ".mov",
)  # fmt: skip
"""Of files that hold pictures and are not read, whatever their content: `image_kinds.py` says what to do with each."""


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """The images in a folder and in all folders below it, sorted. None is opened; raises DatasetError."""
    return sorted(_walk(Path(folder)))


class Survey(NamedTuple):
    """What is in a folder and in all below."""

    images: list[Path]
    """Sorted."""
    unread: Counter[str]
    """How many pictures of formats that are not read, by suffix, and files without a suffix, as ''."""
    links: int
    """How many links to folders, which are not followed."""


def survey(folder: str | os.PathLike[str]) -> Survey:
    """The images, as `list_images`, and what would be missed in silence. None is opened; raises DatasetError."""
    images: list[Path] = []
    unread = Counter[str]()
    links = 0
    for here, folders, names in _folders(Path(folder)):
        links += sum(os.path.islink(os.path.join(here, inner)) for inner in folders)  # noqa: PTH114, PTH118
        for name in names:
            if _is_image(name):
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
    """How many images lie directly in a folder. Raises DatasetError."""
    return sum(_is_image(entry.name) and not _leads(entry) for entry in _entries(folder))


def subfolders(folder: Path) -> list[Path]:
    """Folders and links to folders directly inside one, sorted, without those passed over. Raises DatasetError.

    Also passed over is `runs` with what vitsmith wrote there.
    """
    if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        there = os.path.lexists(folder)
        told = _no_folder(folder) if there else "does not exist: check the path"
        raise DatasetError(f"the data set {folder} {told}")
    inside = (folder / entry.name for entry in _entries(folder) if not is_passed_over(entry.name) and _leads(entry))
    return sorted(place for place in inside if not _holds_runs(place))


def _holds_runs(folder: Path) -> bool:
    """Whether these are results of ours, of somebody who worked inside the data set."""
    return folder.name == "runs" and any(next(folder.glob(f"{runs}/command.txt"), None) for runs in ("*", "*/*"))


def _no_folder(file: Path) -> str:
    if file.suffix.lower() in (".zip", ".7z", ".rar", ".gz", ".bz2", ".xz", ".zst"):
        return "is an archive: unpack it and give the folder"
    if file.suffix.lower() in (".parquet", ".arrow"):
        return f"is a file of Hugging Face: give its folder, as hf:{file.parent}"
    return "is a file of no kind that is read: give a folder of class folders, or a table as .csv, .tsv or .jsonl"


def check_links(folder: Path) -> None:
    """Raises DatasetError for a link that leads nowhere: the class or split it stood for would be missing in silence.

    Links with the names of images are told of when they are read.
    """
    for entry in _entries(folder):
        broken = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
        if broken and not is_passed_over(entry.name) and not _is_image(entry.name):
            raise DatasetError(f"{folder / entry.name} is a link that leads nowhere: mend or remove it")


def is_passed_over(name: str) -> bool:
    """Whether a file or folder of this name is none of the user's."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


def _walk(folder: Path) -> Iterator[Path]:
    return (Path(here, name) for here, _, names in _folders(folder) for name in names if _is_image(name))


def _folders(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, names of folders, names of files) for it and all below."""
    for here, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_passed_over(name)]
        yield here, folders, names


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def _leads(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DatasetError(f"cannot read the folder {error.filename}: {error.strerror}; check its permissions") from error
