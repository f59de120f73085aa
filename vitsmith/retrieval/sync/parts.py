"""The parts of an index after a sync: those without a change stay, the others are written again under new numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from vitsmith.data.images.photo import FACTS
from vitsmith.retrieval.description import IndexPart
from vitsmith.retrieval.part_files import PartContent, write_part
from vitsmith.retrieval.sync.files import Files
from vitsmith.retrieval.sync.held import HeldFailure, Holdings
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
    """Key -> what else is known of it."""
    given: bool
    """Whether columns were given, which then replace those of the index; else `columns` are what the index has."""


def new_parts(holdings: Holdings, wanted: Wanted, most_rows: int) -> tuple[IndexPart, ...]:
    """The parts of the index as it is wanted; those that differ are written.

    A sync every night leaves a small part each time: once `TOGETHER` neighbours have `most_rows` rows or less, they are
    written as one.
    """
    columns = {name for one in wanted.columns.values() for name in one} if wanted.given else set()
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
        self._wanted, self._given = wanted, given
        self.index, self.at, self.held = holdings.index, at, holdings.parts[at]
        self.keys = wanted.plan.names[start : start + self.held.facts.rows]
        self.kept = [row for row, key in enumerate(self.keys) if key]
        self.ids = [wanted.ids[key] for key in self.keys if key]
        states = wanted.files.states
        self.seen = [states.get(key) for key in self.keys if key]
        contents = [state.digest if state is not None else "" for state in self.seen]
        copies = wanted.plan.copies
        self.copies = [(wanted.ids[key], states[key]) for content in contents for key in copies.get(content, ())]
        self.failed = [
            {"id": wanted.ids[key], "error": failure.error} | ({"seen": seen} if (seen := states.get(key)) else {})
            for key, failure in self.held.failed
            if holdings.failed[key] is failure and key in wanted.ids and wanted.files.now[key] is None
        ]

    @property
    def inputs(self) -> int:
        return len(self.ids) + len(self.failed)

    @property
    def is_same(self) -> bool:
        """Whether its files say what they are to say."""
        rows = self.held.rows
        return (
            len(self.kept) == len(rows)
            and self.ids == [row.name for row in rows]
            and self.seen == [row.state for row in rows]
            and sorted(self.copies) == sorted((one.name, one.state) for one in self.held.copies)
            and self.failed == [_as_written(failure) for _, failure in self.held.failed]
            and (not self._has_news or self.columns == self.held.columns)
        )

    @property
    def _has_news(self) -> bool:
        """Whether something was read or given of its files, which its columns may have already."""
        facts, rows = self._wanted.files.facts, self.held.rows
        return bool(self._given) or any(
            key != row.key or key in facts for key, row in zip(self.keys, rows, strict=True) if key
        )

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """The columns of the kept rows, with what was read or given anew; those `given` replace earlier ones."""
        wanted, given = self._wanted, self._given
        columns = {
            name: [values[row] for row in self.kept]
            for name, values in self.held.columns.items()
            if not given or name in FACTS or name in given
        }
        kept = [key for key in self.keys if key]
        for at, (key, row) in enumerate(zip(kept, self.kept, strict=True)):
            before = self.held.rows[row].key
            if key != before and before in wanted.ids:  # it was not moved: it is another file
                for name in columns.keys() - set(FACTS):
                    columns[name][at] = None
            for name, value in {**wanted.files.facts.get(key, {}), **wanted.columns.get(key, {})}.items():
                columns.setdefault(name, [None] * len(kept))[at] = value
        return columns

    def as_before(self) -> IndexPart:
        """Its description, where its files stay."""
        number = self.index.description.number_of(self.at)
        return self.held.facts.model_copy(update={"number": number, "retried": False, "inputs": self.inputs})

    def content(self) -> PartContent:
        """What is to be written of it."""
        vectors = self.index.vectors(self.at)
        return PartContent(
            vectors[np.asarray(self.kept, np.int64)] if len(self.kept) < len(vectors) else vectors,
            self.ids, self.seen, self.columns, self.failed, self.copies,
        )  # fmt: skip


def _as_written(failure: HeldFailure) -> dict[str, Any]:
    return {"id": failure.name, "error": failure.error} | ({"seen": failure.state} if failure.state else {})
