"""Embeddings on disk: a folder of vectors in parts, with the id of each and the model that they came from.

index/
  index.json             whose embeddings these are, the parts with the SHA-256 of their files, whether all are there
  part-000000.npy        vectors (rows, E), float16 or float32
  part-000000.ids.jsonl  the id of each row, a JSON string a line
  part-000000.failed.jsonl  inputs of this part that could not be read, where there were any
  part-000000.seen.jsonl  of images that are files: what the file of each row was, see `changes`; not in older indexes
  approximate.faiss      a faster search that may miss some, with approximate.json; only when asked for

A part exists once index.json names it. Letters: N vectors, E embedding width.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitsmith.arguments import path
from vitsmith.errors import InputError
from vitsmith.files import sha256
from vitsmith.retrieval.changes import Seen
from vitsmith.retrieval.description import (
    REMEDY,
    Description,
    Part,
    Space,
    check_same_model,
    failed_name,
    ids_name,
    read_description,
    seen_name,
    vectors_name,
)
from vitsmith.weights.archive import LONGEST_HEADER, NPY_DAMAGE

if TYPE_CHECKING:
    from vitsmith.weights.bundle import Bundle

LONGEST = 1.01
"""No vector in an index is longer: a unit vector rounded to float16 is not, and the search counts on it."""

Array = np.ndarray[Any, Any]


class Index:
    """An index to read. The vectors are mapped, not read: any number of them costs no memory.

    Before vectors of a part are first given out they are compared with their SHA-256, unless not to be verified.
    """

    def __init__(self, folder: Path, description: Description, *, verify: bool = True) -> None:
        self.folder, self.description = folder, description
        self.starts = np.cumsum([0, *(part.rows for part in description.parts)])
        """(parts + 1,) position of the first row of each part; the last is N."""
        self._mapped: dict[int, Array] = {}
        self._verified = set[int]() if verify else set(range(len(description.parts)))

    def __len__(self) -> int:
        return self.description.count

    def __repr__(self) -> str:
        space, unfinished = self.space, "" if self.description.complete else ", unfinished"
        rows = f"{len(self):,} {space.kind} by {space.model}, {space.width} numbers in {space.dtype}"
        return f"<Index of {rows}, {self.folder}{unfinished}>"

    @property
    def space(self) -> Space:
        return self.description.space

    def vectors(self, part: int) -> Array:
        """(rows, E) of one part, mapped from the disk; not to be written. Raises InputError for a damaged one."""
        self._verify(part)
        return self.mapped(part)

    def mapped(self, part: int) -> Array:
        """The same, whatever it holds."""
        rows = self.description.parts[part].rows
        if not rows:  # nothing cannot be mapped
            return np.zeros((0, self.space.width), self.space.dtype)
        if part not in self._mapped:
            path = self.folder / vectors_name(part)
            self._mapped[part] = np.load(path, mmap_mode="r", allow_pickle=False, max_header_size=LONGEST_HEADER)
        return self._mapped[part]

    def rows(self, positions: Sequence[int] | Array) -> Array:
        """(positions, E) of the vectors at `positions`, any order."""
        chosen = np.asarray(positions, np.int64)
        parts = np.searchsorted(self.starts, chosen, side="right") - 1
        rows = np.empty((len(chosen), self.space.width), self.space.dtype)
        for part in np.unique(parts).tolist():
            inside = parts == part
            rows[inside] = self.vectors(part)[chosen[inside] - self.starts[part]]
        return rows

    def sound_rows(self, positions: Sequence[int] | Array) -> Array:
        """`rows`, for answers to be made of. Raises InputError when one is longer than `LONGEST`, or not finite."""
        rows = self.rows(positions)
        wrong = np.flatnonzero(~(lengths_of(rows) <= LONGEST))  # so that NaN is wrong too
        if len(wrong):
            raise self.damaged(int(positions[wrong[0]]))
        return rows

    def damaged(self, position: int) -> InputError:
        """What to raise when the vector at `position` is none that was written."""
        part = int(np.searchsorted(self.starts, position, side="right")) - 1
        row = position - int(self.starts[part])
        return InputError(f"{self.folder / vectors_name(part)} is damaged (row {row} is no unit vector): {REMEDY}")

    def ids(self, positions: Sequence[int] | Array) -> list[str]:
        """What lies at `positions`; only the parts they are in are read."""
        chosen = np.asarray(positions, np.int64)
        parts = np.searchsorted(self.starts, chosen, side="right") - 1
        lines = {part: _lines(self.folder / ids_name(part)) for part in np.unique(parts).tolist()}
        return [
            json.loads(lines[part][position - self.starts[part]])
            for part, position in zip(parts.tolist(), chosen.tolist(), strict=True)
        ]

    def part_ids(self, part: int) -> list[str]:
        """The ids of one part, in order."""
        return [json.loads(line) for line in _lines(self.folder / ids_name(part))]

    def part_seen(self, part: int) -> list[Seen | None] | None:
        """What the files of one part's rows were when they were embedded; None when that was not kept."""
        if seen_name(part) not in self.description.parts[part].files:
            return None
        lines = map(json.loads, _lines(self.folder / seen_name(part)))
        return [None if line is None else Seen(*line) for line in lines]

    def written_at(self, part: int) -> int:
        """When one part was written, in nanoseconds since 1970."""
        return (self.folder / ids_name(part)).stat().st_mtime_ns

    def failed(self) -> Iterator[dict[str, str]]:
        """{'id', 'error'} of each input that could not be read, and not later either."""
        parts = self.description.parts
        read = Counter(name for part, facts in enumerate(parts) if facts.retried for name in self.part_ids(part))
        for part, facts in enumerate(parts):
            for line in _lines(self.folder / failed_name(part)) if facts.failures else ():
                one = json.loads(line)
                if read[one["id"]]:
                    read[one["id"]] -= 1
                else:
                    yield one

    def check_hashes(self) -> None:
        """Raises InputError unless every file is the one that was written. Reads all of them."""
        for part in self.description.parts:
            for name, expected in part.files.items():
                _check_hash(self.folder / name, expected)
        self._verified.update(range(len(self.description.parts)))

    def verify(self, threads: int = 1) -> None:
        """Compares all vectors with their SHA-256 that were not before. Raises InputError for damaged ones."""
        left = [part for part in range(len(self.description.parts)) if part not in self._verified]
        if len(left) > 1 and threads > 1:
            with ThreadPoolExecutor(min(threads, len(left)), thread_name_prefix="verify") as pool:
                list(pool.map(self._verify, left))
        else:
            for part in left:
                self._verify(part)

    def _verify(self, part: int) -> None:
        if part in self._verified:
            return
        name = vectors_name(part)
        _check_hash(self.folder / name, self.description.parts[part].files[name])
        self._verified.add(part)

    def check_model(self, bundle: Bundle, model: str = "") -> None:
        """Raises InputError when `bundle`, which the user calls `model`, is another model than that of the index.

        An index of texts needs the vocabulary too, for queries of every kind: texts that were read as other tokens
        lie elsewhere.
        """
        check_same_model(self.folder, self.space, identity_of(bundle, self.space.kind), model or bundle.where)


def identity_of(bundle: Bundle, kind: str) -> str:
    """Names the space in which `bundle` embeds inputs of this kind; every index keeps it.

    Raises InputError for texts when the bundle has no text tower or vocabulary.
    """
    return bundle.text_identity if kind == "texts" else bundle.identity


def lengths_of(vectors: Array) -> Array:
    """float64 (R,) lengths of (R, E) vectors."""
    lengths: Array = np.sqrt(np.einsum("re,re->r", vectors, vectors, dtype=np.float64))
    return lengths


def open_index(folder: str | os.PathLike[str], *, unfinished: bool = False, verify: bool = True) -> Index:
    """The index in `folder`. Ids and failures are compared with their hashes, vectors with their shape.

    Vectors are compared with their hashes, too, before they are first used; with `verify=False` they are not, and a
    search only tells vectors that cannot be. Raises InputError for what is no index or damaged, and, unless
    `unfinished`, for one that is still in the making.
    """
    folder = path(folder, "an index")
    description = read_description(folder)
    if not (description.complete or unfinished):
        raise InputError(
            f"{folder} is unfinished ({description.count:,} vectors are there): resume with the  vitsmith embed "
            f"command that began it, `out` {folder}, or search what is there with `unfinished`"
        )
    index = Index(folder, description, verify=verify)
    for number, part in enumerate(description.parts):
        _check_part(index, number, part)
    return index


def _check_part(index: Index, number: int, part: Part) -> None:
    missing = [name for name in part.files if not (index.folder / name).is_file()]
    if missing:
        raise InputError(f"{index.folder}: {', '.join(missing)} is missing: {REMEDY}")
    for name, expected in part.files.items():
        if name != vectors_name(number):  # which are many times larger
            _check_hash(index.folder / name, expected)
    try:
        vectors = index.mapped(number)
    except NPY_DAMAGE as error:
        raise InputError(f"{index.folder / vectors_name(number)} cannot be read ({error}): {REMEDY}") from None
    if vectors.shape != (part.rows, index.space.width) or vectors.dtype != index.space.dtype:
        raise InputError(
            f"{index.folder / vectors_name(number)} holds {vectors.dtype} of {vectors.shape} and not "
            f"{index.space.dtype} of {(part.rows, index.space.width)}: {REMEDY}"
        )


def _check_hash(path: Path, expected: str) -> None:
    try:
        found = sha256(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from None
    if found != expected:
        raise InputError(f"{path} is damaged (its SHA-256 differs): {REMEDY}")


def _lines(path: Path) -> list[str]:
    """Lines of a file of ours. Ids are ASCII in it, so that no character of theirs ends a line."""
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): {REMEDY}") from None
