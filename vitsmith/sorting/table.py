"""Clusters as a table: a .csv file with a row for each image."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from vitsmith.errors import InputError, OutputError
from vitsmith.files.atomic import check_writable, write_text
from vitsmith.sorting.clusters import Clusters

COLUMNS = ("image", "group", "name", "score", "path")


def check_table(path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Raises InputError for a name that is not a table's, OutputError where it cannot be written or is there."""
    place = Path(path)
    if place.suffix.lower() != ".csv":
        raise InputError(f"{place} is no name for the table: give a file that ends in .csv")
    if place.is_dir() or (place.exists() and not force):
        raise OutputError(f"{place} exists: choose another --out, or replace it with --force")
    check_writable(place)


def write_table(path: str | os.PathLike[str], found: Clusters) -> None:
    """Writes each image with the number of its group, its name and its cosine to the centre; empty for no group."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS if found.kind == "images" else ("text", *COLUMNS[1:]))
    for number, group in enumerate(found.groups, 1):
        for name, file, score in zip(group.members, group.paths, group.scores, strict=True):
            rows.writerow((_written(name), number, group.name, f"{score:.6f}", _absolute(file)))
    for name, file in zip(found.not_grouped, found.not_grouped_paths, strict=True):
        rows.writerow((_written(name), "", "", "", _absolute(file)))
    write_text(path, text.getvalue())


def _absolute(path: str) -> str:
    return _written(os.path.abspath(path)) if path else ""  # noqa: PTH100 - of any text


def _written(name: str) -> str:
    """The name as UTF-8 can hold it: of a file name that is no text, the bytes as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
