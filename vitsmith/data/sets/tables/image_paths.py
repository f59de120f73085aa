"""Check the files that the rows of a table name: they exist, and each is listed once. Find out why some are missing."""

from __future__ import annotations

import os
import unicodedata
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from vitsmith.data.sets.labelling import Labelling
from vitsmith.data.sets.samples import list_some
from vitsmith.errors import DatasetError

_OTHER_FORM = "the files exist, with names in Unicode form"


class Row(NamedTuple):
    """One image with one label, from one line."""

    line: int
    """The last line of the row in the file, counted from 1."""
    path: str
    label: str
    split: str
    """'train', 'val' or 'test'; empty in a table without a column of splits."""


def with_slashes(table: Path, rows: list[Row]) -> list[Row]:
    """Replace '\\' of Windows with '/' in all paths, if the files are found so."""
    written = next((row.path for row in rows if "\\" in row.path), "")
    if not written or os.path.isfile(table.parent / written):  # noqa: PTH113
        return rows
    if not os.path.isfile(table.parent / written.replace("\\", "/")):  # noqa: PTH113
        return rows
    return [row._replace(path=row.path.replace("\\", "/")) for row in rows]


def check_files(table: Path, rows: list[Row], labelling: Labelling) -> None:
    """Raise DatasetError, with their number, for files that do not exist and for images listed twice."""
    seen: dict[str, Row] = {}
    repeated: list[str] = []
    missing: list[str] = []
    for row in rows:
        file = os.path.normpath(os.path.join(table.parent, row.path))  # noqa: PTH118 - a million of them
        first = seen.setdefault(file, row)
        if first is not row and labelling.several and first.split == row.split:
            continue
        if first is not row:
            fields = ("split",) if labelling.several else ("label", "split")
            differs = next((f" with another {what}" for what in fields if _differ(first, row, what)), "")
            repeated.append(f"{row.path} (lines {first.line} and {row.line}{differs})")
        elif not os.path.isfile(file):  # noqa: PTH113
            told = ", a folder" if os.path.isdir(file) else ", no file" if os.path.lexists(file) else ""  # noqa: PTH112
            missing.append(f"{row.path} (line {row.line}{told})")
    mistakes = []
    if missing:
        mistakes.append(
            f"lists {len(missing):,} of {len(seen) + len(repeated):,} images that do not exist in {table.parent}: "
            f"{list_some(missing, ', ')}; {_hint(table, rows, missing)}"
        )
    if repeated:
        remedy = "keep an image in one split" if labelling.several else "keep one line of each"
        mistakes.append(f"lists {len(repeated):,} images twice: {list_some(repeated, ', ')}; {remedy}")
    if mistakes:
        raise DatasetError(f"{table} {'; and it '.join(mistakes)}")


def _hint(table: Path, rows: list[Row], missing: list[str]) -> str:
    """The likely reason why the paths of a table are not found."""
    shown = [row.path for row in rows if f"{row.path} (line {row.line})" in missing[:20]]
    if any("://" in path for path in shown):
        return "addresses are not fetched: download the images first"
    for change, told in (
        (unquote, "write the paths as they are, without % codes"),
        (partial(unicodedata.normalize, "NFD"), f"{_OTHER_FORM} NFD, as macOS writes them: rename them, or the rows"),
        (partial(unicodedata.normalize, "NFC"), f"{_OTHER_FORM} NFC: rename them, or the rows"),
    ):
        if any(change(path) != path and os.path.isfile(table.parent / change(path)) for path in shown):  # noqa: PTH113
            return told
    return "paths are relative to the table's folder"


def _differ(one: Row, other: Row, field: str) -> bool:
    return bool(getattr(one, field) != getattr(other, field))
