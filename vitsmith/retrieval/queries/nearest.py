"""Answer queries: exact or approximate search, conditions, the least score, and the query itself left out.

Q queries, K answers, P parts of a query, E embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arguments import whole_number
from vitsmith.arrays import Array
from vitsmith.errors import InputError, shown
from vitsmith.retrieval.approximate import ApproximateIndex, ApproximatelyFound
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.answers import Answer, AnswerList
from vitsmith.retrieval.queries.own import OwnEntries
from vitsmith.retrieval.queries.parts import QueryPart, combined
from vitsmith.retrieval.search import Found, check_allowed, search

_MORE = 8  # further answers at first, among which the query itself may be


@dataclass(frozen=True)
class Query:
    """A unit vector (E,) and what it was made of."""

    name: str
    vector: Array
    parts: tuple[QueryPart, ...] = ()


def query_of(
    names: Sequence[str],
    vectors: Array,
    without: Sequence[str] = (),
    less: Array | None = None,
    *,
    parts: Sequence[QueryPart] = (),
) -> Query:
    """The query "a + b - c" of the unit vectors (P, E), called `names`, and of those in `less`, called `without`.

    `parts` are those that are not subtracted. Raises InputError where hardly anything is left, see `combined`.
    """
    name = " + ".join(names) + "".join(f" - {one}" for one in without)
    if len(names) == 1 and not without:
        return Query(name, np.asarray(vectors[0], np.float32), tuple(parts))
    return Query(name, combined(vectors, less if without else None, names=[*names, *without]), tuple(parts))


@dataclass(frozen=True)
class AnswerSettings:
    """Which answers are wanted. Raises InputError for a number of answers or a least score that cannot be.

    Args:
        count: K. min_score: the least cosine; None for any. allowed: bool (N,), the entries that may be answers.
        exclude_query: leave out entries that are the query itself. approximate: used in place of the exact search.
    """

    count: int = 10
    min_score: float | None = None
    allowed: Array | None = None
    exclude_query: bool = False
    approximate: ApproximateIndex | None = None

    def __post_init__(self) -> None:
        whole_number(self.count, "the number of answers")
        check_min_score(self.min_score)


def check_min_score(value: Any) -> None:
    """Raise InputError for what is neither a cosine nor None."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not -1 <= value <= 1:
        raise InputError(f"`min_score` is a cosine, a number from -1 to 1, not {shown(value)}")


def why_nothing(index: Index, allowed: Array | None) -> str:
    """Why no query has an answer; '' where one may have."""
    if not len(index):
        return f"{index.folder} holds no vectors, so nothing is found"
    if allowed is not None and not allowed.any():
        return f"none of the {len(index):,} entries of {index.folder} fulfils `where`"
    return ""


def answer(index: Index, queries: Sequence[Query], settings: AnswerSettings) -> list[AnswerList]:
    """The answers to each query. Raises InputError as `search` does."""
    if not queries:
        return []
    extra = _MORE if settings.exclude_query else 0
    found = _search(index, np.stack([query.vector for query in queries]), settings, settings.count + extra)
    answers = []
    for at, query in enumerate(queries):
        mine = _row(found, at)
        own = OwnEntries(index, query.parts) if settings.exclude_query else None
        others = _without(index, query, settings, mine, own)
        answers.append(_answers(index, query, others, settings))
    return answers


def _without(index: Index, query: Query, settings: AnswerSettings, found: Found, own: OwnEntries | None) -> Found:
    """What was found but the query itself; further answers are searched for until there are enough."""
    if own is None:
        return found
    most, asked = check_allowed(index, settings.allowed)[1], settings.count + _MORE
    while True:
        kept = ~own.among(found.positions[0])
        if np.count_nonzero(kept) >= settings.count or asked >= most:
            break
        asked *= 4
        found = _row(_search(index, query.vector[None], settings, asked), 0)
    chosen = np.flatnonzero(kept)[: settings.count]
    return _with(found, found.scores[:, chosen], found.positions[:, chosen])


def _search(index: Index, vectors: Array, settings: AnswerSettings, count: int) -> Found:
    if settings.approximate is None:
        return search(index, vectors, count, allowed=settings.allowed)
    return settings.approximate.search(vectors, count, allowed=settings.allowed)


def _row(found: Found, at: int) -> Found:
    """What was found for one query, without places that are not filled."""
    there = found.positions[at] >= 0
    looked_at = found.looked_at[at : at + 1] if isinstance(found, ApproximatelyFound) else None
    scores, positions = found.scores[at : at + 1, there], found.positions[at : at + 1, there]
    return Found(scores, positions) if looked_at is None else ApproximatelyFound(scores, positions, looked_at)


def _with(found: Found, scores: Array, positions: Array) -> Found:
    if isinstance(found, ApproximatelyFound):
        return ApproximatelyFound(scores, positions, found.looked_at)
    return Found(scores, positions)


def _answers(index: Index, query: Query, found: Found, settings: AnswerSettings) -> AnswerList:
    scores, positions = found.scores[0], found.positions[0]
    best = float(scores[0]) if len(scores) else None
    if settings.min_score is not None:
        enough = scores >= settings.min_score
        scores, positions = scores[enough], positions[enough]
    # Vectors kept in float16 may be a little longer than 1, and with them the products that rank them.
    cosines = scores.clip(-1, 1).tolist()
    rows = zip(index.ids(positions), cosines, positions.tolist(), index.copies(positions), strict=True)
    share = float(found.looked_at[0]) / len(index) if isinstance(found, ApproximatelyFound) and len(index) else 1.0
    root = index.description.root if index.space.kind == "images" else ""
    listed = tuple(
        Answer(name, score, _path(index, name), position, tuple(copies), root) for name, score, position, copies in rows
    )
    note = "" if listed else why_nothing(index, settings.allowed) or _why_none(settings, best, share)
    return AnswerList(query.name, listed, share, best, note)


def _why_none(settings: AnswerSettings, best: float | None, share: float) -> str:
    """Why a query has no answer, where others may have one."""
    if best is None:
        return "all entries that may be answers are the query itself"
    some = settings.allowed is not None and not settings.allowed.all()
    which = " other than the query itself" if settings.exclude_query else ""
    which += " that fulfils `where`" if some else ""
    of = " of those compared" if share < 1 else " of them" if some else " of the others" if which else ""
    return f"no entry{which} has a score of {settings.min_score:g}: the best{of} has {best:.4f}"


def _path(index: Index, name: str) -> Path | None:
    """The file of an entry, where there is one."""
    if index.space.kind != "images":
        return None
    path = index.path_of(name)
    try:
        return path.absolute() if path.exists() else None
    except (OSError, ValueError):  # a name that no file can have
        return None
