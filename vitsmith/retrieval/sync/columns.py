"""What a sync does to the columns of an index: some come, some go, and some hold values of another kind than before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vitsmith.conditions.columns import NAMES, WrongKind, as_column
from vitsmith.data.images.photo import FACTS
from vitsmith.errors import shown_names
from vitsmith.retrieval.description import Description
from vitsmith.retrieval.sync.held import HeldPart, Holdings
from vitsmith.retrieval.sync.options import ColumnChange, ColumnChanges


def column_changes(holdings: Holdings, now: Description, given: Sequence[Mapping[str, Any]] | None) -> ColumnChanges:
    """The changes from the index of `holdings` to `now`, but for what images say themselves.

    `given` is what each row has from now on, where that was given.
    """
    if not holdings.published.parts:  # a new index
        return ColumnChanges()
    before, after = ([name for name in one.column_names if name not in FACTS] for one in (holdings.published, now))
    changed = []
    for name in before if given is not None else ():
        if name in after:
            old = _kind([value for part in _published(holdings) for value in part.columns.get(name, ())])
            new = _kind([known.get(name) for known in given or ()])
            if old not in (new, NAMES["empty"]):
                changed.append(ColumnChange(name, old, new))
    return ColumnChanges(
        tuple(name for name in after if name not in before),
        tuple(name for name in before if name not in after),
        tuple(changed),
    )


def told_changes(changes: ColumnChanges, where: object) -> str:
    """A line on what became of the columns of an index."""
    told = [f"{one.name!r} held {one.before} and holds {one.now} now" for one in changes.changed]
    if told:
        told[-1] += ", so that conditions on it compare otherwise or are refused"
    if changes.dropped:
        told.append(f"gone: {shown_names(changes.dropped, 10)}")
    if changes.added:
        told.append(f"new: {shown_names(changes.added, 10)}")
    return f"the columns of {where} have changed: {'; '.join(told)}"


def _published(holdings: Holdings) -> Sequence[HeldPart]:
    return holdings.parts[: len(holdings.published.parts)]


def _kind(values: Sequence[Any]) -> str:
    """What a condition takes the values for."""
    try:
        return NAMES[as_column("", values).kind]
    except WrongKind:
        return "values of several kinds"
