"""What is known of the rows of one part of an index, read from its files when it is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vitsmith.data.images.photo import FileState
from vitsmith.retrieval.description import (
    Description,
    columns_name,
    copies_name,
    failed_name,
    ids_name,
    seen_name,
    vectors_name,
)
from vitsmith.retrieval.part_files import PartReader, check_hash, read_columns

_WEIGHT = 6  # bytes of memory for each byte of a file of copies


class PartRows:
    """The part of an index in `folder` at the position `at`. Its methods raise InputError for damaged files."""

    def __init__(self, folder: Path, description: Description, at: int, reader: PartReader) -> None:
        self.folder, self.description, self._reader = folder, description, reader
        self.facts = description.parts[at]
        self.number = description.number_of(at)

    @property
    def vectors_file(self) -> Path:
        """The file of its vectors."""
        return self.folder / vectors_name(self.number)

    def ids(self, rows: Sequence[int] | None = None) -> list[str]:
        """The id of each row, or of those at `rows`."""
        return self._values(ids_name, rows)

    def seen(self, rows: Sequence[int] | None = None) -> list[FileState | None] | None:
        """The state of the file of each row, or of those at `rows`, when it was embedded; None when it was not
        recorded."""
        if not self._has(seen_name):
            return None
        return [None if line is None else FileState(*line) for line in self._values(seen_name, rows)]

    def columns(self) -> dict[str, list[Any]]:
        """What is known of each row, by column; none in older indexes."""
        if not self._has(columns_name):
            return {}
        self.check_columns()
        return read_columns(self.folder, columns_name(self.number), self.description)

    def check_columns(self) -> None:
        """Raise InputError unless the file of its columns, if it has one, has its recorded hash."""
        if self._has(columns_name):
            self.check(columns_name(self.number))

    def copies(self) -> dict[str, list[tuple[str, FileState]]]:
        """Further files with the same content as rows of this part: digest -> (id, state) of each."""
        if not self._has(copies_name):
            return {}
        name = copies_name(self.number)
        return self._reader.made(
            self.folder, name, self.description, self.facts.files[name], _by_digest, weight=_WEIGHT
        )

    def copies_of(self, rows: Sequence[int]) -> list[list[str]]:
        """The ids of further files with the same content as each of the rows."""
        copies = self.copies()
        states = self.seen(rows) if copies else None
        if states is None:
            return [[] for _ in rows]
        return [[name for name, _ in copies.get(state.digest, ())] if state is not None else [] for state in states]

    def failed(self) -> list[dict[str, Any]]:
        """{'id', 'error'} of each input that could not be read, and 'seen', the state of its file, where known."""
        return self._values(failed_name) if self._has(failed_name) else []

    def check(self, name: str) -> None:
        """Raise InputError unless the file has its recorded hash."""
        check_hash(self.folder, name, self.description, self.facts.files[name])

    def _has(self, named: Callable[[int], str]) -> bool:
        return named(self.number) in self.facts.files

    def _values(self, named: Callable[[int], str], rows: Sequence[int] | None = None) -> list[Any]:
        name = named(self.number)
        return self._reader.values(self.folder, name, self.description, self.facts.files[name], rows)


def _by_digest(data: bytes) -> dict[str, list[tuple[str, FileState]]]:
    """The lines of a file of copies, by the digest of their content."""
    found: dict[str, list[tuple[str, FileState]]] = {}
    for line in data.splitlines():
        one = json.loads(line)
        state = FileState(*one["seen"])
        found.setdefault(state.digest, []).append((one["id"], state))
    return found
