"""The files of a part of an index: lines of JSON, vectors, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FRESH, FileState
from vitsmith.errors import InputError, shown
from vitsmith.files.atomic import replacing, sha256
from vitsmith.json_text import read_json, to_json
from vitsmith.retrieval.description import (
    REMEDY,
    Description,
    IndexPart,
    checksum_now,
    columns_name,
    copies_name,
    failed_name,
    ids_name,
    seen_name,
    vectors_name,
)

LARGEST_COLUMNS = 1 << 30
"""The largest file of columns that is read, in bytes."""
MOST_KEPT = 128 << 20
"""The memory for what one open index keeps of these files, in bytes: ids and states of about 700,000 photos."""
_ITS_OWN = ("id", "path", "embedding", "vector", "score", "copies")
"""What an entry of an index, a row of a table of it or an answer has under these names beside its columns."""
_LONGEST_NAME = 255
_NOT_IN_NAMES = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029`]")


T = TypeVar("T")


class PartReader:
    """Reads files of an index, and compares each with its hash when it is read first, and whenever it is another file.

    Part numbers are used again when an index is made anew, so a reader that has it open finds other files by their
    names. What was read is kept, up to `MOST_KEPT`, and used for as long as the file is the same.
    """

    def __init__(self) -> None:
        self._compared: dict[Path, tuple[int, ...]] = {}
        self._kept: OrderedDict[tuple[Path, Callable[[bytes], Any]], _Kept] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def values(
        self, folder: Path, name: str, description: Description, expected: str, rows: Iterable[int] | None = None
    ) -> list[Any]:
        """The values of a file with one JSON value on each line, or those at `rows`.

        Ids are written as ASCII, so that no character of an id ends a line. Raises InputError, which says when the
        index has been replaced meanwhile.
        """
        lines = self.made(folder, name, description, expected, _Lines.of)
        values: list[Any] = json.loads(f"[{lines.joined(rows)}]")  # five times as fast as each
        return values

    def made(
        self,
        folder: Path,
        name: str,
        description: Description,
        expected: str,
        make: Callable[[bytes], T],
        *,
        weight: int = 1,
    ) -> T:
        """What `make`, always the same function, makes of a file. Raises InputError as `values`.

        It is kept, and takes `weight` times the memory of the file.
        """
        path = folder / name
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                state = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
                with self._lock:
                    kept = self._kept.get((path, make))
                    if kept is not None and kept.state == state:
                        self._kept.move_to_end((path, make))
                        return cast("T", kept.made)
                data = file.read()
        except OSError as error:
            raise unreadable(folder, name, description, error) from None
        if self._compared.get(path) != state and hashlib.sha256(data).hexdigest() != expected:
            raise _other_content(folder, name, description)
        made = make(data)
        if time.time_ns() - facts.st_mtime_ns > FRESH:
            self._compared[path] = state
            self._keep((path, make), _Kept(state, made, weight * len(data)))
        return made

    def _keep(self, key: tuple[Path, Callable[[bytes], Any]], kept: _Kept) -> None:
        """Keeps one more; those that were not asked for longest go where all take too much."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._size += kept.size - (before.size if before is not None else 0)
            self._kept[key] = kept
            while self._size > MOST_KEPT:
                self._size -= self._kept.popitem(last=False)[1].size


class _Kept(NamedTuple):
    """What was made of a file that was so, and about how many bytes it takes."""

    state: tuple[int, ...]
    made: Any
    size: int


class _Lines(NamedTuple):
    """The lines of a file."""

    data: bytes
    starts: Array
    """(lines + 1,) where each begins; the last is the end of the file."""

    @classmethod
    def of(cls, data: bytes) -> _Lines:
        ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
        return cls(data, np.concatenate([[0], ends]))

    def joined(self, rows: Iterable[int] | None) -> str:
        """Those at `rows`, or all, with commas between them."""
        if rows is None:
            return self.data.decode("ascii").rstrip("\n").replace("\n", ",")
        chosen = (self.data[self.starts[row] : self.starts[row + 1] - 1] for row in rows)
        return b",".join(chosen).decode("ascii")


def read_columns(folder: Path, name: str, description: Description) -> dict[str, list[Any]]:
    """The columns of a part, by name. Raises InputError."""
    try:
        columns: dict[str, list[Any]] = read_json(folder / name, largest=LARGEST_COLUMNS)
    except (OSError, InputError) as error:
        raise unreadable(folder, name, description, error) from None
    return columns


def unreadable(folder: Path, name: str, description: Description, error: Exception) -> InputError:
    """The error for a file of an index that cannot be read."""
    if _is_another(folder, description):
        return _written_anew(folder)
    if isinstance(error, FileNotFoundError):
        return InputError(f"{folder}: {name} is missing: {REMEDY}")
    return InputError(f"{folder / name} cannot be read ({error}): {REMEDY}")


def check_hash(folder: Path, name: str, description: Description, expected: str) -> None:
    """Raise InputError unless a file has its recorded hash."""
    try:
        found = sha256(folder / name)
    except OSError as error:
        raise unreadable(folder, name, description, error) from None
    if found != expected:
        raise _other_content(folder, name, description)


def _other_content(folder: Path, name: str, description: Description) -> InputError:
    if _is_another(folder, description):
        return _written_anew(folder)
    return InputError(f"{folder / name} is damaged (its SHA-256 differs): {REMEDY}")


def _is_another(folder: Path, description: Description) -> bool:
    return bool(description.checksum) and checksum_now(folder) not in ("", description.checksum)


def _written_anew(folder: Path) -> InputError:
    return InputError(
        f"{folder} was written anew by another process while it was read: run the command again, or open it again"
    )


class PartContent(NamedTuple):
    """What is written of a part. R rows."""

    vectors: Array
    """(R, E), or patches (R, rows, columns, E)."""
    ids: Sequence[str]
    """R ids."""
    seen: Sequence[FileState | None]
    """The state of the file of each row; not written when all are None."""
    columns: Mapping[str, Sequence[Any]]
    """What is known of the rows, by column; not written when there is none."""
    failed: Sequence[Mapping[str, Any]] = ()
    """The inputs that could not be read, see `PartRows.failed`."""
    copies: Sequence[tuple[str, FileState]] = ()
    """Further files with the same content as rows."""


def write_part(folder: Path, number: int, content: PartContent) -> IndexPart:
    """Write the files of one part, and describe them."""
    ids, failed = list(content.ids), list(content.failed)
    _write_lines(folder / ids_name(number), ids)
    _write_vectors(folder / vectors_name(number), content.vectors)
    files = [ids_name(number), vectors_name(number)]
    if failed:
        _write_lines(folder / failed_name(number), failed)
        files.append(failed_name(number))
    if any(content.seen):
        _write_lines(folder / seen_name(number), content.seen)
        files.append(seen_name(number))
    if content.columns:
        _write_columns(folder / columns_name(number), content.columns)
        files.append(columns_name(number))
    if content.copies:
        _write_lines(folder / copies_name(number), ({"id": name, "seen": seen} for name, seen in content.copies))
        files.append(copies_name(number))
    return IndexPart(
        rows=len(ids),
        inputs=len(ids) + len(failed),
        names=hash_names([*ids, *(one["id"] for one in failed)]),
        files={name: sha256(folder / name) for name in files},
        number=number,
        columns=tuple(content.columns),
    )


def check_column_name(name: Any) -> None:
    """Raise InputError for a name that a column cannot have, because some place could not give the column under it."""
    if name in _ITS_OWN:
        raise InputError(
            f"the column {name!r} has the name of what every entry of an index has: rename it, or leave it out"
        )
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or _NOT_IN_NAMES.search(name):
        raise InputError(
            f"{shown(name)} cannot be the name of a column, which has 1 to {_LONGEST_NAME} characters, none of them a "
            "control character or a backquote: rename it, or leave it out"
        )


def together(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of rows that may lack some: these are None."""
    return {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}


def _write_lines(path: Path, values: Iterable[Any]) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        file.writelines(to_json(value, ascii_only=True).encode("ascii") + b"\n" for value in values)


def _write_columns(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """One JSON object, with a column on each line."""
    lines = (f"{to_json(name, ascii_only=True)}: {to_json(list(columns[name]), ascii_only=True)}" for name in columns)
    with replacing(path) as partial:
        partial.write_bytes(b"{" + ",\n".join(lines).encode("ascii") + b"}\n")


def _write_vectors(path: Path, vectors: Array) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, vectors, allow_pickle=False)


def hash_names(names: Sequence[str]) -> str:
    """SHA-256 over the names of inputs, in order."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(to_json(name, ascii_only=True).encode("ascii") + b"\n")
    return digest.hexdigest()
