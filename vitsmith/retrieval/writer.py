"""Write an index so that a run which is killed at any moment can resume where it stopped. E embedding width.

Vectors are written part by part, each completely or not at all, and index.json names a part only when it is on disk.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FileState
from vitsmith.errors import InputError
from vitsmith.files.atomic import remove_empty
from vitsmith.finite import rows_not_finite
from vitsmith.retrieval.description import (
    DESCRIPTION,
    FORMAT,
    SYNC,
    Description,
    Space,
    is_index,
    write_description,
)
from vitsmith.retrieval.folder import (
    check_folder,
    continued,
    current_folder,
    inputs_done,
    interrupted_sync,
    locked,
    remove_index,
    remove_leftovers,
)
from vitsmith.retrieval.index import LONGEST, Index, lengths_of, open_index
from vitsmith.retrieval.part_files import PartContent, check_column_name, hash_names, together, write_part
from vitsmith.stream import Failure

PART_ROWS = 16_384
PART_SECONDS = 60.0
"""A part is written after this many rows or seconds: the most work that is lost when the process is killed."""
PART_NUMBERS = 2**26
"""Patches of images fill a part sooner: this many numbers are 256 MiB in memory."""

EmbeddedRow = tuple[str, Array] | Failure


class IndexWriter:
    """The folder of an index while it is written; it is locked, so that only one process at a time adds to it.

    Use it as a context manager: at the end the rest is written, also after an exception.
    """

    def __init__(
        self,
        folder: Path,
        space: Space,
        *,
        part_rows: int = PART_ROWS,
        part_seconds: float = PART_SECONDS,
        sync: bool = False,
    ) -> None:
        """Open the index in `folder`, or begin a new one.

        With `sync`, new parts are named in sync.json, and index.json stays as it is until `replace`.

        Raises InputError when it was made by another model or in another way, or is being written by another process,
        or has an unfinished sync and `sync` is False, and OutputError when the folder cannot be written or holds other
        things.
        """
        self.folder = folder
        self._file = SYNC if sync else DESCRIPTION
        self._discarded = False
        self._is_new = not is_index(folder)
        self.part_rows = min(part_rows, max(1, PART_NUMBERS // space.numbers))
        self._part_seconds = part_seconds
        check_folder(folder)
        self._lock = locked(folder)
        try:
            if is_index(folder):
                self.description = continued(folder, space)
                interrupted = interrupted_sync(folder, self.description)
                if interrupted is not None and not sync:
                    raise InputError(
                        f"{folder} has an unfinished sync: run the command that began it again, with `sync`, and it "
                        "goes on from there"
                    )
            else:
                self.description = Description(format=FORMAT, space=space, complete=False)
                write_description(folder, self.description)
                interrupted = None
            self.published = self.description
            """What index.json says, and so what readers have."""
            if sync:
                # Errors compare the checksum with that of index.json, to tell damage from an index written anew.
                unfinished = {"complete": False, "checksum": self.published.checksum}
                self.description = (interrupted or self.published).model_copy(update=unfinished)
            self._clean()
        except BaseException:
            self._lock.release()
            remove_empty(folder)
            raise
        self._retried = False
        self._begin_part()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not isinstance(error, InputError):  # a full disk, or vectors that were refused: do not try again
                self.commit()
            elif self._is_new and not self.description.parts:  # refused before anything was done
                self.discard()
            elif self._file == SYNC and not self._discarded:  # what was written in vain must not fill the disk
                with suppress(OSError):
                    self._clean()
        finally:
            self._lock.release()
        if self._discarded:
            remove_index(self.folder)

    def done_of(self, names: Sequence[str]) -> int:
        """The number of inputs at the beginning of `names` that are already in the index.

        Raises InputError unless they are the same as before, in the same order; more may follow.
        """
        return inputs_done(self.folder, self.description, names)

    def set_root(self, paths: Sequence[str], done: int) -> None:
        """Record the current folder, from which `paths` of images lead; the first `done` are in the index already.

        Raises InputError for an index with paths from another folder.
        """
        if all(map(os.path.isabs, paths)):
            return
        have, root = self.description.root, current_folder()
        if have and root != have:
            raise InputError(
                f"{self.folder} names its images by their paths from {have}, and this is {root}: run the command "
                "there, or with `sync`, which finds images that were moved"
            )
        if all(map(os.path.isabs, paths[:done])):  # otherwise an older index, of which the folder is not known
            self.description = self.description.model_copy(update={"root": root})

    def lead_from(self, root: str) -> str:
        """Let relative names of what a sync adds lead from `root`, or from where those lead that it has added already.

        Returns that folder.
        """
        if len(self.description.parts) == len(self.published.parts):
            self.description = self.description.model_copy(update={"root": root})
        return self.description.root

    def reopen(self) -> None:
        """Mark the index in index.json as unfinished."""
        if self.description.complete:
            self._write(self.description.model_copy(update={"complete": False}))

    def failed(self) -> list[str]:
        """The names of the inputs that are recorded as unreadable."""
        return [one["id"] for one in Index(self.folder, self.description).failed()]

    @contextmanager
    def retrying(self) -> Iterator[None]:
        """Inside, inputs that were recorded as unreadable are added; the readable ones get parts of their own."""
        self.commit()
        self._retried = True
        yield
        self.commit()
        self._retried = False  # not after an exception: the added rows must still be written, as such a part

    def add(self, row: EmbeddedRow, seen: FileState | None = None, columns: Mapping[str, Any] | None = None) -> None:
        """Add the vector (E,) of one input, or its patches (rows, columns, E), or the reason why there is none.

        `seen` is the state of its file, `columns` what else is known of it, for `Index.column`.
        """
        if isinstance(row, Failure):
            if self._retried:  # recorded already
                return
            self._names.append(row.source)
            self._failed.append({"id": row.source, "error": row.reason} | ({"seen": seen} if seen else {}))
        else:
            name, vector = row
            self._names.append(name)
            self._vectors[len(self._ids)] = vector
            self._ids.append(name)
            self._seen.append(seen)
            self._columns.append(columns or {})
        if len(self._names) >= self.part_rows or time.monotonic() - self._began >= self._part_seconds:
            self.commit()

    def commit(self) -> None:
        """Write the added rows as a new part. Raises InputError for vectors that are not unit vectors.

        Patches are no unit vectors; those beyond the range of float16 are refused.
        """
        if not self._names:
            return
        rows = len(self._ids)
        with np.errstate(over="ignore"):  # values too large for float16 become infinite, and are refused
            vectors = self._vectors[:rows].astype(self.description.space.dtype)
        if self.description.space.what == "patches":
            _check_range(vectors, self._ids)
        else:
            _check_vectors(vectors, self._ids)
        columns = together(self._columns)
        for name in columns:
            check_column_name(name)
        part = write_part(
            self.folder,
            self.description.next_number,
            PartContent(vectors, self._ids, self._seen, columns, self._failed),
        )
        part = part.model_copy(update={"names": hash_names(self._names), "retried": self._retried})
        if part.number == len(self.description.parts):
            part = part.model_copy(update={"number": None})
        self._write(self.description.model_copy(update={"parts": (*self.description.parts, part)}))
        self._begin_part()

    def finish(self) -> Index:
        """Write the rest and mark the index as complete."""
        self.commit()
        if not self.description.complete:
            self._write(self.description.model_copy(update={"complete": True}))
        return open_index(self.folder)

    def replace(self, description: Description) -> Index:
        """Make `description` the index, in one step; then remove the files of the old one that it does not need."""
        self._names.clear()
        if description != self.published:
            write_description(self.folder, description)
        self.published = self.description = description
        self._clean()
        return open_index(self.folder)

    def forget_sync(self) -> None:
        """Remove what this sync has made."""
        self._names.clear()
        self.description = self.published
        self._clean()

    def discard(self) -> None:
        """Remove the whole index at the end: there is nothing in it."""
        self._names.clear()
        self._discarded = True

    def _write(self, description: Description) -> None:
        write_description(self.folder, description, self._file)
        self.description = description

    def _begin_part(self) -> None:
        self._vectors = np.empty((self.part_rows, *self.description.space.shape), np.float32)
        self._ids: list[str] = []
        self._names: list[str] = []
        self._failed: list[dict[str, Any]] = []
        self._seen: list[FileState | None] = []
        self._columns: list[Mapping[str, Any]] = []
        self._began = time.monotonic()

    def _clean(self) -> None:
        """Remove what a killed process left."""
        known = {name for part in (*self.published.parts, *self.description.parts) for name in part.files}
        if self.description is not self.published:
            known.add(SYNC)
        remove_leftovers(self.folder, known)


def _check_vectors(vectors: Array, ids: Sequence[str]) -> None:
    lengths = lengths_of(vectors)
    wrong = np.flatnonzero(~(lengths <= LONGEST))  # so that NaN is wrong too
    if len(wrong):
        raise InputError(
            f"the model gives {ids[wrong[0]]!r} a vector of length {lengths[wrong[0]]}, not a unit vector: check the "
            "model with  vitsmith inspect"
        )


def _check_range(vectors: Array, ids: Sequence[str]) -> None:
    if rows := rows_not_finite(vectors):
        raise InputError(f"patches of {ids[rows[0]]!r} have values beyond {vectors.dtype}: embed with --dtype float32")
