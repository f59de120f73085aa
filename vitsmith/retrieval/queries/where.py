"""Which rows of an index fulfil a condition on its columns:  taken >= '2024-05-01' and camera_city == 'Paris'. N rows.

`conditions.condition` says how one is written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.conditions.columns import ColumnKind
from vitsmith.conditions.condition import ColumnTable, rows_where
from vitsmith.conditions.expression import parsed
from vitsmith.data.images.photo import FACTS
from vitsmith.retrieval.index import Index

_KINDS: dict[str, ColumnKind] = {name: "date" if name == "taken" else "number" for name in FACTS}
"""What the columns of images hold, also where all values are missing."""


def matching(index: Index, text: str) -> Array:
    """The rows that fulfil the condition `text`: bool (N,).

    Columns are those of the index and `id`, the name of each file: a row with copies fulfils it when one of its files
    does.

    Raises InputError as `rows_where`, and for what cannot be read.
    """
    expression = parsed(text)
    files = _Files(index, with_copies="id" in expression.columns)
    names = ["id", *(one for one in index.column_names if one != "id")]
    told = f"there is only id in {index.folder} (an older index, or one of texts): embed again for others"
    table = ColumnTable(names, files.values, _KINDS, names=frozenset({"id"}), no_others=told if names == ["id"] else "")
    yes = rows_where(expression, table).yes
    rows: Array = yes[: len(index)].copy()
    rows[files.copied[yes[len(index) :]]] = True
    return rows


class _Files:
    """The columns of an index, of its rows and then, where a condition asks for ids, of their copies."""

    def __init__(self, index: Index, *, with_copies: bool) -> None:
        self._index, self._with_copies = index, with_copies
        self._ids: list[str] = []
        self.copied = np.zeros(0, np.int64)
        """The row of each copy."""

    def values(self, name: str) -> list[Any]:
        if self._with_copies and not self._ids:
            self._read_ids()
        if name == "id":
            return self._ids
        values = self._index.column(name)
        return values + [values[row] for row in self.copied.tolist()]

    def _read_ids(self) -> None:
        copies: list[tuple[str, int]] = []
        for at, start in enumerate(self._index.starts[:-1].tolist()):
            part = self._index.part(at)
            self._ids += part.ids()
            if part.copies():
                of_rows = part.copies_of(range(part.facts.rows))
                copies += ((name, start + row) for row, names in enumerate(of_rows) for name in names)
        self._ids += (name for name, _ in copies)
        self.copied = np.array([row for _, row in copies], np.int64)
