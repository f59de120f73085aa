"""The answers to a query, as they print: score and name, best first."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from vitsmith.errors import InputError
from vitsmith.escapes import visible
from vitsmith.retrieval.file_state import NAMELESS


@dataclass(frozen=True)
class Answer:
    """An entry of an index, as the answer to a query."""

    id: str
    """Its name in the index: a path as it was given to embed, or a text."""
    score: float
    """The cosine."""
    path: Path | None
    """The file, from any folder; None for a text, and where no such file is there now."""
    position: int
    copies: tuple[str, ...] = ()
    """Further files with the same content."""
    root: str = ""
    """The folder from which relative ids lead; empty where that is not known."""

    @property
    def shown(self) -> str:
        """A name that opens it from the present folder, as `shown_name`."""
        return shown_name(self.root, self.id)

    def __str__(self) -> str:
        return f"{self.score:7.4f}  {visible(self.shown)}"


@dataclass(frozen=True)
class AnswerList(Sequence[Answer]):
    """The answers to one query, best first: a sequence, which prints as a line for each."""

    query: str
    found: tuple[Answer, ...]
    searched: float = 1.0
    """The share of the index that was looked at: 1 unless the search was approximate."""
    best: float | None = None
    """The best score without `min_score`; None where there was nothing to compare."""
    note: str = ""
    """Where there is no answer, why."""

    @overload
    def __getitem__(self, at: int) -> Answer: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Answer, ...]: ...
    def __getitem__(self, at: int | slice) -> Answer | tuple[Answer, ...]:
        return self.found[at]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Answer]:
        return iter(self.found)

    def __repr__(self) -> str:
        count = (
            "no answer" if not self.found else "1 answer" if len(self.found) == 1 else f"{len(self.found):,} answers"
        )
        after = "" if self.searched == 1 else f", after {self.searched:.1%} of the entries were compared"
        why = f": {visible(self.note)}" if self.note else ""
        return "\n".join([f"<{count} to {visible(repr(self.query))}{after}{why}>", *map(str, self.found)])

    def to_pandas(self) -> Any:
        """A table with the columns `id`, `score`, `path` and `copies`, a row for each answer.

        Raises InputError without pandas.
        """
        rows = {
            "id": [one.id for one in self.found],
            "score": [one.score for one in self.found],
            "path": [None if one.path is None else str(one.path) for one in self.found],
            "copies": [list(one.copies) for one in self.found],
        }
        return pandas().DataFrame(rows)


def name_from_here(name: str, path: str) -> str:
    """A name that opens the file at `path` from the present folder: `name` where it leads there, or else `path`."""
    if name == path:
        return name
    with suppress(OSError, ValueError):
        if os.path.join(os.getcwd(), name) == path:  # noqa: PTH109, PTH118 - of a million names
            return name
        if os.path.realpath(name) == os.path.realpath(path):
            return name
    return path


def shown_name(root: str, name: str) -> str:
    """As `name_from_here`, of the entry `name` of an index with this root.

    So also where the file is gone, as another one may be there by the id.
    """
    if not root or NAMELESS.fullmatch(name):
        return name
    return name_from_here(name, os.path.join(root, name))  # noqa: PTH118 - of any text


def pandas() -> Any:
    """The package. Raises InputError where it is not installed."""
    try:
        import pandas  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise InputError("this needs pandas, which is not installed: run  pip install pandas") from None
    return pandas
