"""The files of a part of an index: lines of JSON, vectors, and their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FileState
from vitsmith.errors import InputError
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
_FRESH = 2_000_000_000
"""Nanoseconds in which a file may change again without another time, as in data/images/photo.py."""


class PartReader:
    """Reads files of an index, and compares each with its hash when it is read first, and whenever it is another file.

    Part numbers are used again when an index is made anew, so a reader that has it open finds other files by their
    names.
    """

    def __init__(self) -> None:
        self._compared: dict[Path, tuple[int, ...]] = {}

    def values(
        self, folder: Path, name: str, description: Description, expected: str, rows: Iterable[int] | None = None
    ) -> list[Any]:
        """The values of a file with one JSON value on each line, or those at `rows`.

        Ids are written as ASCII, so that no character of an id ends a line. Raises InputError, which says when the
        index has been replaced meanwhile.
        """
        lines = self._read(folder, name, description, expected).decode("ascii").splitlines()
        chosen = lines if rows is None else [lines[row] for row in rows]
        values: list[Any] = json.loads(f"[{','.join(chosen)}]")  # five times as fast as each
        return values

    def _read(self, folder: Path, name: str, description: Description, expected: str) -> bytes:
        path = folder / name
        try:
            with path.open("rb") as file:
                facts, data = os.fstat(file.fileno()), file.read()
        except OSError as error:
            raise unreadable(folder, name, description, error) from None
        state = facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
        if self._compared.get(path) != state:
            if hashlib.sha256(data).hexdigest() != expected:
                raise _other_content(folder, name, description)
            if time.time_ns() - facts.st_mtime_ns > _FRESH:
                self._compared[path] = state
        return data


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
    return InputError(f"{folder} was written anew by another process while it was read: run the command again")


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
