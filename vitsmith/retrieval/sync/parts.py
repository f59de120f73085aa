"""The parts of an index after a sync: those without a change stay, the others are written again under new numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from vitsmith.data.images.photo import FACTS, FileState
from vitsmith.retrieval.description import IndexPart
from vitsmith.retrieval.part import PartRows
from vitsmith.retrieval.part_files import PartContent, write_part
from vitsmith.retrieval.sync.files import Files
from vitsmith.retrieval.sync.held import Holdings
from vitsmith.retrieval.sync.plan import SyncPlan


class Wanted(NamedTuple):
    """What the index is to hold."""

    plan: SyncPlan
    files: Files
    ids: Mapping[str, str]
    """Key -> id."""
    columns: Mapping[str, Mapping[str, Any]]
    """Key -> what else is known of it, where columns were given."""


def new_parts(holdings: Holdings, wanted: Wanted) -> tuple[IndexPart, ...]:
    """The parts of the index as it is wanted; those that differ are written."""
    columns = {name for one in wanted.columns.values() for name in one}
    number = holdings.index.description.next_number
    parts: list[IndexPart] = []
    start = 0
    for at, facts in enumerate(holdings.index.description.parts):
        part = _Part(holdings, wanted, at, start, columns)
        start += facts.rows
        if part.is_empty:
            continue
        if part.is_same:
            kept = {"number": holdings.index.description.number_of(at), "retried": False, "inputs": part.inputs}
            parts.append(facts.model_copy(update=kept))
        else:
            parts.append(part.write(number))
            number += 1
    return tuple(
        part.model_copy(update={"number": None}) if part.number == at else part for at, part in enumerate(parts)
    )


class _Part:
    """One part as it is and as it is wanted."""

    def __init__(self, holdings: Holdings, wanted: Wanted, at: int, start: int, given: set[str]) -> None:
        self.index, self.at = holdings.index, at
        self.read: PartRows = self.index.part(at)
        rows = range(start, start + self.read.facts.rows)
        self.keys = [wanted.plan.names[row] for row in rows]
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
        self.columns = self._columns(wanted, given)

    @property
    def inputs(self) -> int:
        return len(self.ids) + len(self.failed)

    @property
    def is_empty(self) -> bool:
        return not self.inputs

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
            and self.columns == read.columns()
        )

    def _columns(self, wanted: Wanted, given: set[str]) -> dict[str, list[Any]]:
        """The columns of the kept rows, with what was read or given anew; those `given` replace earlier ones."""
        before = {
            name: [values[row] for row in self.kept]
            for name, values in self.read.columns().items()
            if not given or name in FACTS or name in given
        }
        kept = [key for key in self.keys if key]
        for at, key in enumerate(kept):
            for name, value in {**wanted.files.facts.get(key, {}), **wanted.columns.get(key, {})}.items():
                before.setdefault(name, [None] * len(kept))[at] = value
        return before

    def write(self, number: int) -> IndexPart:
        vectors = self.index.vectors(self.at)
        content = PartContent(
            vectors[np.asarray(self.kept, np.int64)] if len(self.kept) < len(vectors) else vectors,
            self.ids, self.seen, self.columns, self.failed, self.copies,
        )  # fmt: skip
        return write_part(self.index.folder, number, content)


def _as_written(failed: Mapping[str, Any]) -> dict[str, Any]:
    return {name: FileState(*value) if name == "seen" else value for name, value in failed.items()}
