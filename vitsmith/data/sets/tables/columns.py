"""Other columns of a table of images, to be kept beside the images: numbers as numbers, the rest as text."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitsmith.data.sets.tables.image_paths import Row, with_slashes
from vitsmith.data.sets.tables.read import TABLE_SUFFIXES, image_column_of, table_lines
from vitsmith.errors import DatasetError, UnknownNameError
from vitsmith.json_text import to_json

ALL = "all"
_NUMBER = re.compile(
    r"-?(0|[1-9]\d{0,17})(\.\d*)?([eE][+-]\d+)?|-?(0|[1-9]\d{0,17})\.\d*[eE]\d+|-?\.\d+([eE][+-]?\d+)?", re.ASCII
)
"""Numbers as programs write them. '007', '+49123', '1e5' and 19 digits are codes: as numbers they were others."""


def columns_of_table(
    path: str | os.PathLike[str], wanted: Sequence[str], sources: Sequence[str], *, image_column: str = ""
) -> dict[str, list[Any]]:
    """The values of the columns `wanted` of a table for the images `sources`, as `find_table` gives them.

    Empty cells are None. 'all' are all columns but that of the paths. A column of a .csv is of numbers when all of its
    values are. Raises DatasetError for what is no table and for an image with two values, and UnknownNameError for
    columns that it does not have, with the names of those that it has.
    """
    table = Path(path)
    if table.suffix.lower() not in TABLE_SUFFIXES:
        raise DatasetError(f"{table} is no table, and columns are those of one: give a {', '.join(TABLE_SUFFIXES)}")
    lines = [(line, fields) for line, fields in table_lines(table) if isinstance(fields, dict)]
    first = lines[0][1] if lines else {}
    images = image_column_of(first, image_column)
    known = list(dict.fromkeys(name for _, fields in lines for name in fields if name and name != images))
    chosen = known if list(wanted) == [ALL] else list(dict.fromkeys(wanted))
    for name in chosen:
        if name not in known:
            raise UnknownNameError(f"column of {table}", name, known)
    rows = with_slashes(table, [Row(line, str(fields.get(images, "")).strip(), "", "") for line, fields in lines])
    places = {os.path.join(table.parent, row.path): at for at, row in reversed(list(enumerate(rows)))}  # noqa: PTH118
    if sources and not any(source in places for source in sources):
        raise DatasetError(f"{table} has none of the images, as {sources[0]!r}: give the table that lists them")
    found: dict[str, list[Any]] = {}
    for name in chosen:
        values = _values([fields.get(name) for _, fields in lines], text=table.suffix.lower() in (".csv", ".tsv"))
        for at, row in enumerate(rows):
            earlier = places[os.path.join(table.parent, row.path)]  # noqa: PTH118
            if values[earlier] != values[at]:
                raise DatasetError(
                    f"{table} lists {row.path!r} twice, in lines {rows[earlier].line} and {row.line}, with different "
                    f"values of {name!r}: keep one"
                )
        found[name] = [values[places[source]] if source in places else None for source in sources]
    return found


def _values(given: list[Any], *, text: bool) -> list[Any]:
    """Values as they are kept: text, numbers or None."""
    if not text:
        return [_plain(value) for value in given]
    stripped = [value.strip() if isinstance(value, str) else "" for value in given]
    numbers = all(_NUMBER.fullmatch(value) and math.isfinite(float(value)) for value in stripped if value)
    return [(_number(value) if numbers else value) if value else None for value in stripped]


def _number(text: str) -> int | float:
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def _plain(value: Any) -> Any:
    """A value of JSON as text, number or None."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if value is None or isinstance(value, str | int | float) else to_json(value)
