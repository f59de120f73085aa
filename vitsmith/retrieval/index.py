"""Embeddings on disk: a folder with vectors in parts, the id of each vector, and the model that made them.

index/
  index.json             the model, the parts with the SHA-256 of their files, whether the index is complete
  part-000000.npy        vectors (rows, E), float16 or float32; of patches (rows, rows of the grid, columns, E)
  part-000000.ids.jsonl  the id of each row, one JSON string on each line
  part-000000.failed.jsonl  inputs of this part that could not be read, if any
  part-000000.seen.jsonl  for image files: the `FileState` of each row; not in older indexes
  part-000000.columns.json  what is known of each row, by column: {"taken": ["2024-05-01T10:20:30", null, ...], ...}
  part-000000.copies.jsonl  further files with the same content as a row of this part
  approximate.faiss      a faster search that may miss some vectors, with approximate.json; optional

A part exists once index.json names it. Its number is its position, unless index.json says otherwise. Letters: N
vectors, E embedding width.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from vitsmith.arguments import named_arguments, path
from vitsmith.arrays import Array
from vitsmith.data.images.photo import FileState
from vitsmith.errors import InputError, UnknownNameError, shown
from vitsmith.retrieval.description import (
    REMEDY,
    Description,
    Space,
    check_same_model,
    checksum_now,
    columns_name,
    describe_numbers,
    read_description,
)
from vitsmith.retrieval.part import PartRows
from vitsmith.retrieval.part_files import PartReader, check_hash
from vitsmith.weights.containers.archive import LONGEST_HEADER, NPY_DAMAGE

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.weights.bundle.bundle import Bundle

T = TypeVar("T")
LONGEST = 1.01
"""The largest length of a vector in an index, on which the search relies; rounding to float16 keeps it."""


class Index:
    """An index to read. The vectors are mapped, not read: any number of them costs no memory.

    The vectors of a part are compared with their SHA-256 before their first use, unless `verify` is False.
    """

    def __init__(self, folder: Path, description: Description, *, verify: bool = True) -> None:
        self.folder, self.description = folder, description
        self.starts = np.cumsum([0, *(part.rows for part in description.parts)])
        """(parts + 1,) position of the first row of each part; the last is N."""
        self._mapped: dict[int, Array] = {}
        self._reader = PartReader()
        self._verified = set[int]() if verify else set(range(len(description.parts)))

    def __len__(self) -> int:
        return self.description.count

    def __repr__(self) -> str:
        space, unfinished = self.space, "" if self.description.complete else ", unfinished"
        rows = f"{len(self):,} {space.kind} by {space.model}, {describe_numbers(space)} in {space.dtype}"
        return f"<Index of {rows}, {self.folder}{unfinished}>"

    @property
    def space(self) -> Space:
        return self.description.space

    def vectors(self, part: int) -> Array:
        """The vectors (rows, E) of one part, mapped from the disk, read-only. Raises InputError for a damaged part."""
        self._verify(part)
        return self.mapped(part)

    def mapped(self, part: int) -> Array:
        """The vectors of one part as `vectors`, without comparing the SHA-256."""
        rows = self.description.parts[part].rows
        if not rows:  # an empty file cannot be mapped
            return np.zeros((0, *self.space.shape), self.space.dtype)
        if part not in self._mapped:
            path = self.part(part).vectors_file
            self._mapped[part] = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=LONGEST_HEADER)
        return self._mapped[part]

    def rows(self, positions: Sequence[int] | Array) -> Array:
        """The vectors at `positions`, in any order: (positions, E); patches (positions, rows, columns, E).

        Raises InputError for a position that the index does not have, as the other methods that take positions do.
        """
        chosen = self._placed(positions)
        parts = np.searchsorted(self.starts, chosen, side="right") - 1
        rows = np.empty((len(chosen), *self.space.shape), self.space.dtype)
        for part in np.unique(parts).tolist():
            inside = parts == part
            rows[inside] = self.vectors(part)[chosen[inside] - self.starts[part]]
        return rows

    def sound_rows(self, positions: Sequence[int] | Array) -> Array:
        """As `rows`, but raises InputError when a vector is longer than `LONGEST` or not finite; used for answers."""
        rows = self.rows(positions)
        wrong = np.flatnonzero(~(lengths_of(rows) <= LONGEST))  # so that NaN is wrong too
        if len(wrong):
            raise self.damaged(int(positions[wrong[0]]))
        return rows

    def damaged(self, position: int) -> InputError:
        """The error for a damaged vector at `position`."""
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        row = position - int(self.starts[part])
        return InputError(f"{self.part(part).vectors_file} is damaged (row {row} is not a unit vector): {REMEDY}")

    def ids(self, positions: Sequence[int] | Array) -> list[str]:
        """The ids at `positions`; only the parts with these positions are read."""
        return self._by_part(positions, lambda part, rows: part.ids(rows))

    def seen(self, positions: Sequence[int] | Array) -> list[FileState | None]:
        """The states of the files at `positions` when they were embedded; None where that was not recorded."""
        return self._by_part(positions, lambda part, rows: part.seen(rows) or [None] * len(rows))

    def part(self, at: int) -> PartRows:
        """What is known of the rows of one part."""
        return PartRows(self.folder, self.description, at, self._reader)

    def part_ids(self, part: int) -> list[str]:
        """The ids of one part, in order."""
        return self.part(part).ids()

    def path_of(self, name: str) -> Path:
        """The file with the id `name`, from whatever folder this is called: relative ids lead from the index's root."""
        return Path(self.description.root, name)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of all columns; of an index of image files at least those of `vitsmith.data.images.photo.FACTS`."""
        return self.description.column_names

    def column(self, name: str) -> list[Any]:
        """The N values of one column in order of positions, None where unknown. Raises InputError as `columns`."""
        return self.columns(name)[name]

    def columns(self, *names: str) -> dict[str, list[Any]]:
        """Several columns as `column`; each part is read once. Raises InputError, with the names that there are."""
        for name in names:
            if name not in self.column_names:
                raise UnknownNameError(f"column of {self.folder}", name, list(self.column_names))
        found: dict[str, list[Any]] = {name: [] for name in names}
        for part, facts in enumerate(self.description.parts):
            known = self.part(part).columns() if set(names) & set(facts.columns) else {}
            for name, values in found.items():
                values += known.get(name) or [None] * facts.rows
        return found

    def copies(self, positions: Sequence[int] | Array) -> list[list[str]]:
        """For each position the ids of further files with the same content, which have no rows of their own."""
        return self._by_part(positions, lambda part, rows: part.copies_of(rows))

    def _by_part(self, positions: Sequence[int] | Array, read: Callable[[PartRows, list[int]], list[T]]) -> list[T]:
        """What `read` gives for rows of a part, for `positions` in any order; only the parts with these are read."""
        chosen = self._placed(positions)
        parts = np.searchsorted(self.starts, chosen, side="right") - 1
        found: dict[int, T] = {}
        for at in np.unique(parts).tolist():
            inside = np.unique(chosen[parts == at])
            found.update(zip(inside.tolist(), read(self.part(at), (inside - self.starts[at]).tolist()), strict=True))
        return [found[position] for position in chosen.tolist()]

    def _placed(self, positions: Sequence[int] | Array) -> Array:
        """`positions` as int64. Raises InputError for what is none of this index."""
        try:
            chosen = np.asarray(positions)
        except ValueError:  # lists of several lengths
            chosen = np.empty((0, 0))
        if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
            raise InputError(f"positions are a list of whole numbers from 0, as [0, 5], not {shown(positions)}")
        wrong = chosen[(chosen < 0) | (chosen >= len(self))]
        if len(wrong):
            raise InputError(
                f"{self.folder} has no entry at the position {wrong[0]:,}: it has {len(self):,} entries, counted from 0"
            )
        return chosen.astype(np.int64, copy=False)

    def failed(self) -> Iterator[dict[str, str]]:
        """Yield {'id', 'error'} of each input that could not be read, not even later."""
        parts = self.description.parts
        read = Counter(name for part, facts in enumerate(parts) if facts.retried for name in self.part_ids(part))
        for part, facts in enumerate(parts):
            for one in self.part(part).failed() if facts.failures else ():
                if read[one["id"]]:
                    read[one["id"]] -= 1
                else:
                    yield {"id": one["id"], "error": one["error"]}

    def check_hashes(self) -> None:
        """Read all files, and raise InputError unless each has its recorded hash."""
        for part in self.description.parts:
            for name, expected in part.files.items():
                check_hash(self.folder, name, self.description, expected)
        self._verified.update(range(len(self.description.parts)))

    def verify(self, threads: int = 1) -> None:
        """Compare all vectors with their SHA-256, except those already compared. Raises InputError for damaged ones."""
        left = [part for part in range(len(self.description.parts)) if part not in self._verified]
        if len(left) > 1 and threads > 1:
            with ThreadPoolExecutor(min(threads, len(left)), thread_name_prefix="verify") as pool:
                list(pool.map(self._verify, left))
        else:
            for part in left:
                self._verify(part)

    def take_verified(self, earlier: Index) -> None:
        """Vectors that `earlier` has compared need it no more; `earlier` is this index before parts were added."""
        self._verified |= earlier._verified

    def _verify(self, part: int) -> None:
        if part in self._verified:
            return
        read = self.part(part)
        read.check(read.vectors_file.name)
        self._verified.add(part)

    def check_model(self, bundle: Bundle, model: str = "") -> None:
        """Raise InputError when `bundle`, which the user calls `model`, is not the model of the index.

        For an index of texts the vocabulary must be the same too, for queries of every kind: texts that are read as
        other tokens have other embeddings.
        """
        check_same_model(self.folder, self.space, identity_of(bundle, self.space.kind), model or bundle.where)

    def check_encoder(self, encoder: Encoder, model: str = "") -> None:
        """As `check_model`, and raise InputError when the encoder makes vectors of another kind (`what`)."""
        self.check_model(encoder.bundle, model)
        if encoder.what != self.space.what:
            raise InputError(
                f"{self.folder} holds what={self.space.what!r}, and this encoder makes {encoder.what!r} ones, "
                f"which cannot be compared: give  vitsmith.Encoder(PATH, what={self.space.what!r})"
            )


def identity_of(bundle: Bundle, kind: str) -> str:
    """The identity of the space in which `bundle` embeds inputs of this kind; every index records it.

    Raises InputError for texts when the bundle has no text tower or vocabulary.
    """
    return bundle.text_identity if kind == "texts" else bundle.identity


def lengths_of(vectors: Array) -> Array:
    """The lengths of vectors (R, E): float64 (R,)."""
    lengths: Array = np.sqrt(np.einsum("re,re->r", vectors, vectors, dtype=np.float64))
    return lengths


@named_arguments
def open_index(folder: str | os.PathLike[str], *, unfinished: bool = False, verify: bool = True) -> Index:
    """Open the index in `folder`. Ids and failures are compared with their hashes, vectors with their shape.

    Vectors are also compared with their hashes before their first use. With `verify=False` they are not, and a search
    only reports impossible vectors. Raises InputError for a folder that is not an index, a damaged index and, unless
    `unfinished`, an unfinished one.
    """
    folder = path(folder, "an index")
    while True:
        index = _described(folder, unfinished, verify)
        try:
            check_parts(index)
        except InputError:
            if checksum_now(folder) in ("", index.description.checksum):
                raise
        else:
            return index  # otherwise another process has replaced it meanwhile, with all its parts


def check_parts(index: Index, first: int = 0) -> None:
    """Raise InputError unless the files of all parts from `first` on are there, and fit index.json."""
    for part in range(first, len(index.description.parts)):
        _check_part(index, part)


def _described(folder: Path, unfinished: bool, verify: bool) -> Index:
    description = read_description(folder)
    if not (description.complete or unfinished):
        raise InputError(
            f"{folder} is unfinished (it has {description.count:,} vectors): resume it with the  vitsmith embed  "
            f"command that began it (--out {folder}), or search in these vectors with `unfinished`"
        )
    return Index(folder, description, verify=verify)


def _check_part(index: Index, at: int) -> None:
    """Raise InputError unless the files of a part are there, and all but the largest have their recorded hashes."""
    part = index.part(at)
    missing = [name for name in part.facts.files if not (index.folder / name).is_file()]
    if missing:
        raise InputError(f"{index.folder}: {', '.join(missing)} is missing: {REMEDY}")
    for name in part.facts.files:
        if name not in (part.vectors_file.name, columns_name(part.number)):  # which are compared when they are read
            part.check(name)
    try:
        vectors = index.mapped(at)
    except NPY_DAMAGE as error:
        raise InputError(f"{part.vectors_file} cannot be read ({error}): {REMEDY}") from None
    if vectors.shape != (part.facts.rows, *index.space.shape) or vectors.dtype != index.space.dtype:
        raise InputError(
            f"{part.vectors_file} holds {vectors.dtype} of {vectors.shape}, not "
            f"{index.space.dtype} of {(part.facts.rows, *index.space.shape)}: {REMEDY}"
        )
