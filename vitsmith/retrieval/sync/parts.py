"""The parts of an index after a sync: those without a change stay, the others are written again under new numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vitsmith.data.images.photo import FACTS, FileState
from vitsmith.retrieval.description import IndexPart
from vitsmith.retrieval.part import PartRows
from vitsmith.retrieval.part_files import PartContent, write_part
from vitsmith.retrieval.sync.files import Files
from vitsmith.retrieval.sync.held import Holdings
from vitsmith.retrieval.sync.plan import SyncPlan

TOGETHER = 8
"""So many small parts become one: a row is then copied few times in the life of an index."""


class Wanted(NamedTuple):
    """What the index is to hold."""

    plan: SyncPlan
    files: Files
    ids: Mapping[str, str]
    """Key -> id."""
    columns: Mapping[str, Mapping[str, Any]]
    """Key -> what else is known of it, where columns were given."""


def new_parts(holdings: Holdings, wanted: Wanted, most_rows: int) -> tuple[IndexPart, ...]:
    """The parts of the index as it is wanted; those that differ are written.

    A sync every night leaves a small part each time: once `TOGETHER` neighbours have `most_rows` rows or less, they are
    written as one.
    """
    columns = {name for one in wanted.columns.values() for name in one}
    number = holdings.index.description.next_number
    parts: list[IndexPart] = []
    for run in _runs(_parts(holdings, wanted, columns), most_rows):
        if len(run) >= TOGETHER:
            parts.append(write_part(holdings.index.folder, number, _joined([part.content() for part in run])))
            number += 1
            continue
        for part in run:
            if part.is_same:
                parts.append(part.as_before())
            else:
                parts.append(write_part(holdings.index.folder, number, part.content()))
                number += 1
    return tuple(
        part.model_copy(update={"number": None}) if part.number == at else part for at, part in enumerate(parts)
    )


def _parts(holdings: Holdings, wanted: Wanted, columns: set[str]) -> Iterator[_Part]:
    """The parts that are not empty."""
    start = 0
    for at, facts in enumerate(holdings.index.description.parts):
        part = _Part(holdings, wanted, at, start, columns)
        start += facts.rows
        if part.inputs:
            yield part


def _runs(parts: Iterable[_Part], most_rows: int) -> Iterator[list[_Part]]:
    """The parts in order, in runs of neighbours that have `most_rows` rows or less together, or of one."""
    run: list[_Part] = []
    rows = 0
    for part in parts:
        if run and rows + len(part.kept) > most_rows:
            yield run
            run, rows = [], 0
        run.append(part)
        rows += len(part.kept)
    if run:
        yield run


def _joined(contents: Sequence[PartContent]) -> PartContent:
    """One part with the rows of several, in order."""
    names = dict.fromkeys(name for one in contents for name in one.columns)
    return PartContent(
        np.concatenate([one.vectors for one in contents]),
        [name for one in contents for name in one.ids],
        [state for one in contents for state in one.seen],
        {name: [value for one in contents for value in one.columns.get(name, [None] * len(one.ids))] for name in names},
        [failed for one in contents for failed in one.failed],
        [copy for one in contents for copy in one.copies],
    )


class _Part:
    """One part as it is and as it is wanted."""

    def __init__(self, holdings: Holdings, wanted: Wanted, at: int, start: int, given: set[str]) -> None:
        self.index, self.at = holdings.index, at
        self.read: PartRows = self.index.part(at)
        rows = range(start, start + self.read.facts.rows)
        self.keys = [wanted.plan.names[row] for row in rows]
        self.before = [holdings.rows[row].key for row in rows]
        self.kept = [row for row, key in enumerate(self.keys) if key]
        self.ids = [wanted.ids[key] for key in self.keys if key]
        states = wanted.files.states
        self.seen = [states.get(key) for key in self.keys if key]
        contents = [state.digest if state is not None else "" for state in self.seen]
        self.copies = [
            (wanted.ids[key], states[key]) for content in contents for key in wanted.plan.copies.get(content, ())
        ]
        self.failed = [
            {"id": wanted.ids[key], "error": one.error} | ({"seen": seen} if (seen := states.get(key)) else {})
            for key, one in holdings.failed.items()
            if one.part == at and key in wanted.ids and wanted.files.now[key] is None
        ]
        self._had = self.read.columns()
        self.columns = self._columns(wanted, given)

    @property
    def inputs(self) -> int:
        return len(self.ids) + len(self.failed)

    @property
    def is_same(self) -> bool:
        """Whether its files say what they are to say."""
        read = self.read
        copies = [one for found in read.copies().values() for one in found]
        return (
            len(self.kept) == read.facts.rows
            and self.ids == read.ids()
            and self.seen == (read.seen() or [None] * read.facts.rows)
            and sorted(self.copies) == sorted(copies)
            and self.failed == [_as_written(one) for one in read.failed()]
            and self.columns == self._had
        )

    def _columns(self, wanted: Wanted, given: set[str]) -> dict[str, list[Any]]:
        """The columns of the kept rows, with what was read or given anew; those `given` replace earlier ones."""
        before = {
            name: [values[row] for row in self.kept]
            for name, values in self._had.items()
            if not given or name in FACTS or name in given
        }
        kept = [key for key in self.keys if key]
        for at, (key, row) in enumerate(zip(kept, self.kept, strict=True)):
            if key != self.before[row] and self.before[row] in wanted.ids:  # it was not moved: it is another file
                for name in before.keys() - set(FACTS):
                    before[name][at] = None
            for name, value in {**wanted.files.facts.get(key, {}), **wanted.columns.get(key, {})}.items():
                before.setdefault(name, [None] * len(kept))[at] = value
        return before

    def as_before(self) -> IndexPart:
        """Its description, where its files stay."""
        number = self.index.description.number_of(self.at)
        return self.read.facts.model_copy(update={"number": number, "retried": False, "inputs": self.inputs})

    def content(self) -> PartContent:
        """What is to be written of it."""
        vectors = self.index.vectors(self.at)
        return PartContent(
            vectors[np.asarray(self.kept, np.int64)] if len(self.kept) < len(vectors) else vectors,
            self.ids, self.seen, self.columns, self.failed, self.copies,
        )  # fmt: skip


def _as_written(failed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: FileState(*value) if name == "seen" else value for name, value in failed.items()}
