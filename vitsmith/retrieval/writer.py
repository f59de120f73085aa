"""Write an index so that a run which is killed at any moment can resume where it stopped. E embedding width.

Vectors are written part by part, each completely or not at all, and index.json names a part only when it is on disk.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FileState
from vitsmith.errors import InputError, OutputError
from vitsmith.files.atomic import remove_empty
from vitsmith.files.failures import explained
from vitsmith.files.locks import HeldError, Lock
from vitsmith.finite import rows_not_finite
from vitsmith.retrieval.description import (
    DESCRIPTION,
    FORMAT,
    Description,
    Space,
    check_same_model,
    is_index,
    read_description,
    write_description,
)
from vitsmith.retrieval.index import LONGEST, Index, lengths_of, open_index
from vitsmith.retrieval.part_files import PartContent, hash_names, together, write_part
from vitsmith.stream import Failure

PART_ROWS = 16_384
PART_SECONDS = 60.0
"""A part is written after this many rows or seconds: the most work that is lost when the process is killed."""
PART_NUMBERS = 2**26
"""Patches of images fill a part sooner: this many numbers are 256 MiB in memory."""

LOCK = ".lock"

EmbeddedRow = tuple[str, Array] | Failure


class IndexWriter:
    """The folder of an index while it is written; it is locked, so that only one process at a time adds to it.

    Use it as a context manager: at the end the rest is written, also after an exception.
    """

    def __init__(
        self, folder: Path, space: Space, *, part_rows: int = PART_ROWS, part_seconds: float = PART_SECONDS
    ) -> None:
        """Open the index in `folder`, or begin a new one.

        Raises InputError when it was made by another model or in another way, or is being written by another process,
        and OutputError when the folder cannot be written or holds other things.
        """
        self.folder = folder
        self._part_rows = min(part_rows, max(1, PART_NUMBERS // space.numbers))
        self._part_seconds = part_seconds
        check_folder(folder)
        self._lock = _lock(folder)
        try:
            if is_index(folder):
                self.description = _continued(folder, space)
            else:
                self.description = Description(format=FORMAT, space=space, complete=False)
                write_description(folder, self.description)
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
        finally:
            self._lock.release()

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
        if len(self._names) >= self._part_rows or time.monotonic() - self._began >= self._part_seconds:
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
        part = write_part(
            self.folder,
            self.description.next_number,
            PartContent(vectors, self._ids, self._seen, together(self._columns), self._failed),
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

    def _write(self, description: Description) -> None:
        write_description(self.folder, description)
        self.description = description

    def _begin_part(self) -> None:
        self._vectors = np.empty((self._part_rows, *self.description.space.shape), np.float32)
        self._ids: list[str] = []
        self._names: list[str] = []
        self._failed: list[dict[str, Any]] = []
        self._seen: list[FileState | None] = []
        self._columns: list[Mapping[str, Any]] = []
        self._began = time.monotonic()

    def _clean(self) -> None:
        """Remove what a killed process left: half-written files, and complete ones that index.json does not name."""
        known = {name for part in self.description.parts for name in part.files}
        for path in self.folder.iterdir():
            half_written = path.name.startswith(".") and path.name.endswith(".partial") and path.is_file()
            if half_written or (path.name.startswith("part-") and path.name not in known):
                path.unlink(missing_ok=True)


def current_folder() -> str:
    """The current folder, for the root of an index; empty when it has been deleted."""
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return ""


def inputs_done(folder: Path, description: Description, names: Sequence[str]) -> int:
    """The number of `names` that are already in an index. Raises InputError unless `names` begins with its inputs."""
    at = 0
    for number, part in enumerate(description.parts):
        if part.retried:
            continue
        if hash_names(names[at : at + part.inputs]) != part.names:
            raise InputError(
                f"{folder} holds {description.inputs:,} inputs, and these are not the same in the same order "
                f"(a difference is among {at + 1:,} to {at + part.inputs:,}, part {number}): give the same list, or a "
                "longer one that begins with it, or choose another `out`"
            )
        at += part.inputs
    return at


def remove_index(folder: Path) -> None:
    """Remove an index, index.json last, as it names the other files. Raises OutputError while it is being written."""
    _lock(folder).release()
    with explained(folder):
        for path in folder.iterdir():
            if path.name != DESCRIPTION:
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
        folder.rmdir()


def _continued(folder: Path, space: Space) -> Description:
    """The description of an index to be continued. Raises InputError when it was made in another way."""
    description = read_description(folder)
    have = description.space
    for what in ("kind", "identity", "what", "dtype", "precision", "width"):  # identity depends on the kind
        if what == "identity":
            check_same_model(folder, have, space.identity, space.model)
        elif getattr(have, what) != getattr(space, what):
            named = "" if what == "what" else f"{what} "
            raise InputError(
                f"{folder} has {named}{getattr(have, what)} and cannot be continued with {getattr(space, what)}: give "
                "the same, or choose another `out`"
            )
    open_index(folder, unfinished=True)
    return description


def check_folder(folder: Path) -> None:
    """Raise OutputError for a file, and for a folder that holds anything else than an index."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose another output folder")
    if folder.is_dir() and not is_index(folder):
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if foreign:
            raise OutputError(f"{folder} holds other files than an index ({foreign[0]}); choose another output folder")


def _lock(folder: Path) -> Lock:
    """Lock the folder until the lock is released or the process ends. Raises InputError."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Lock.take(folder / LOCK)
        except HeldError as held:
            raise InputError(
                f"{folder} is being written by another process: wait for it, or choose another `out` ({held})"
            ) from None


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
