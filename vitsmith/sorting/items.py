"""Images and texts to be sorted, from indexes, folders and files: each once, with what is known of its file."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path

from vitsmith.arguments import Tell
from vitsmith.data.images.photo import DIGITS
from vitsmith.errors import InputError, shown_names
from vitsmith.retrieval.changes import file_changes, tell_unrecorded
from vitsmith.retrieval.file_state import NAMELESS, is_other
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.answers import name_from_here

FileId = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Item:
    """An image file or a text."""

    name: str
    """A path that opens it from the present folder, as it was given where that does; or the text itself."""
    path: str
    """Where the file is; empty for a text."""
    size: int
    """Bytes."""
    modified: int
    """Nanoseconds since 1970 when the file last changed."""
    place: int = 0
    """Which of the given places it is from."""
    digest: str = ""
    """The first half of the SHA-256 of its content, in hexadecimal, where it is known."""
    position: int = -1
    """Its row in the index it is from; -1 where it is from none."""
    width: int = 0
    """Of the picture, in pixels, like `height`; 0 where it is not known."""
    height: int = 0


class Listing:
    """Gathers items. A file that is given several times, also by links, is one item: that of the first place.

    `tell` is given a remark for what is left out.
    """

    def __init__(self, tell: Tell) -> None:
        self.unreadable: list[tuple[str, str]] = []
        """(name, reason) of each file that is not there or is empty."""
        self._tell = tell
        self._known: set[FileId] = set()
        self._again = 0

    def of_index(self, index: Index, place: int) -> list[Item]:
        """The items of an index, the given place of this number.

        Files that are gone, or were changed since they were embedded, are left out. Raises InputError where all are
        gone.
        """
        if index.space.kind == "texts":
            return [text_item(text, place, at) for at, text in enumerate(_ids(index))]
        changes = file_changes(index)
        if changes.unrecorded:
            self._tell(tell_unrecorded(changes.unrecorded, len(index), index.folder))
        found, gone, changed = [], [], []
        for item, is_changed in _files_of(index, set(changes.changed)):
            facts = _look(item.path)
            if facts is None and (digest := NAMELESS.fullmatch(item.name)):
                found.append(replace(item, path="", digest=digest[1], place=place))
            elif facts is None:
                gone.append(item.name)
            elif is_changed:
                changed.append(item.name)
            elif self._is_new(facts):
                found.append(replace(item, size=facts.st_size, modified=facts.st_mtime_ns, place=place))
        if len(gone) >= len(index) > 0 and not found and not changed:
            raise InputError(
                f"none of the {len(index):,} images of {index.folder} is where it was, as {gone[0]}: work in the "
                "folder in which the index was made, or make it again with  vitsmith embed"
            )
        self._left_out(gone, index, "is gone", "are gone")
        self._left_out(changed, index, "changed since it was embedded", "changed since they were embedded")
        return found

    def of_files(self, paths: Sequence[tuple[int, str]]) -> list[Item]:
        """The items of image files, each with the number of its place. One that is not there or empty is unreadable."""
        found = []
        for place, path in paths:
            facts = _look(path)
            if facts is None or not facts.st_size:
                self.unreadable.append((path, f"{path}: {_why_missing(path, facts)}"))
            elif self._is_new(facts):
                found.append(Item(path, path, facts.st_size, facts.st_mtime_ns, place))
        return found

    def finish(self) -> None:
        """Tells how many files were given again."""
        if self._again:
            told = "file was given again, or is a link" if self._again == 1 else "files were given again, or are links"
            self._tell(f"{self._again:,} {told} to one that is there: each file counts once")

    def _is_new(self, facts: os.stat_result) -> bool:
        key = facts.st_dev, facts.st_ino
        if facts.st_ino and key in self._known:
            self._again += 1
            return False
        self._known.add(key)
        return True

    def _left_out(self, names: Sequence[str], index: Index, why_one: str, why: str) -> None:
        if names:
            told = (
                f"1 image of {index.folder} {why_one}"
                if len(names) == 1
                else f"{len(names):,} images of {index.folder} {why}"
            )
            self._tell(f"left out: {told} ({shown_names(names)}); vitsmith embed --sync brings an index up to date")


def text_item(text: str, place: int, position: int) -> Item:
    data = text.encode("utf-8", "surrogatepass")
    return Item(text, "", len(data), 0, place, hashlib.sha256(data).hexdigest()[:DIGITS], position)


def digest_of(path: str) -> str:
    """As `Item.digest`. Raises OSError."""
    with open(path, "rb") as file:  # noqa: PTH123 - of any text
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def _ids(index: Index) -> Iterator[str]:
    for part in range(len(index.description.parts)):
        yield from index.part_ids(part)


def _files_of(index: Index, changed: AbstractSet[str]) -> Iterator[tuple[Item, bool]]:
    """The images of an index, and further files with the same content, which have the row of the first; and whether
    each has `changed` since."""
    sizes = _picture_sizes(index)
    for at in range(len(index.description.parts)):
        part, start = index.part(at), int(index.starts[at])
        states, copies = part.seen(), part.copies()
        for row, name in enumerate(part.ids()):
            seen = states[row] if states is not None else None
            digest = seen.digest if seen is not None else ""
            width, height = sizes[start + row] if sizes else (0, 0)
            path = str(index.path_of(name))
            shown = name if NAMELESS.fullmatch(name) else name_from_here(name, path)
            one = Item(shown, path, 0, 0, 0, digest, start + row, width, height)
            yield one, name in changed
            for copy, state in copies.get(digest, ()):
                path = str(index.path_of(copy))
                yield replace(one, name=name_from_here(copy, path), path=path), is_other(path, state)


def _picture_sizes(index: Index) -> list[tuple[int, int]]:
    """(width, height) of each row; none in an index without columns."""
    if not {"width", "height"} <= set(index.column_names):
        return []
    read = index.columns("width", "height")
    return [(width or 0, height or 0) for width, height in zip(read["width"], read["height"], strict=True)]


def _look(path: str) -> os.stat_result | None:
    try:
        facts = os.stat(path)  # noqa: PTH116 - of any text
    except (OSError, ValueError):
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _why_missing(path: str, facts: os.stat_result | None) -> str:
    if facts is not None:
        return "is empty (0 bytes); replace the image"
    return "is no file" if Path(path).exists() else "no such file"
