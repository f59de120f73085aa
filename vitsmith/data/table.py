"""A data set that is a table: a row for each image with its path, its class or caption and perhaps its split.

CSV and TSV files have a header line; JSON lines have an object a line. Paths are relative to the table's folder.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vitsmith.data.labelling import CLASSES, Labelling
from vitsmith.data.samples import SPLIT_NAMES, Samples, Source, label_positions, list_some, sort_classes
from vitsmith.errors import DatasetError

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")

_IMAGE_COLUMNS = ("path", "image", "file", "filename")
_SPLIT_COLUMN = "split"


class Row(NamedTuple):
    """One image with one label, as its line says."""

    line: int
    """Where it ends in the file, counted from 1."""
    path: str
    label: str
    split: str
    """'train', 'val' or 'test'; empty in a table without such a column."""


class _RowError(Exception):
    """What is wrong with one line."""


class _Columns(NamedTuple):
    """Names of the columns that matter."""

    image: str
    label: str
    with_split: bool


def find_table(
    path: str | os.PathLike[str], *, image_column: str = "", label_column: str = "", labelling: Labelling = CLASSES
) -> Source:
    """The images that a table lists, in the splits that its column 'split' names, if it has one.

    Without `image_column` the first of 'path', 'image', 'file', 'filename' is taken, and without `label_column` the
    first of the usual ones, 'label' and 'class' for classes. No image is opened. Where images may have several labels,
    each is a sample of its own.

    Raises DatasetError, with the number of the line, for a table that cannot be read, columns that are not there, rows
    without path or label, unknown splits, images listed twice though they may have one label only, or in two splits,
    and files that do not exist (all of them counted).
    """
    table = Path(path)
    rows = _read_rows(table, image_column, label_column, labelling)
    if not rows:
        raise DatasetError(f"{table} lists no images: give it a row for each")
    _check_files(table, rows, labelling)
    parts: dict[str, Callable[[], Samples]] = {}
    for split in dict.fromkeys(row.split for row in rows):
        parts[split] = partial(_samples, table.parent, [row for row in rows if row.split == split])
    return Source(table.stem, str(table), parts)


def _samples(folder: Path, rows: list[Row]) -> Samples:
    classes = sort_classes(row.label for row in rows)
    return Samples(
        classes=classes,
        sources=[os.path.join(folder, row.path) for row in rows],  # noqa: PTH118 - a Path takes five times the memory
        names=[row.path.replace(os.sep, "/") for row in rows],
        labels=label_positions([row.label for row in rows], classes),
    )


def _read_rows(table: Path, image_column: str, label_column: str, labelling: Labelling) -> list[Row]:
    lines = _csv_lines if table.suffix.lower() in (".csv", ".tsv") else _json_lines
    rows: list[Row] = []
    mistakes: list[str] = []
    columns: _Columns | None = None
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            for line, fields in lines(file, table.suffix.lower()):
                if columns is None and isinstance(fields, dict):
                    columns = _columns(table, list(fields), image_column, label_column, labelling)
                try:
                    rows += _rows(line, fields, columns, labelling)
                except _RowError as mistake:
                    mistakes.append(f"line {line}: {mistake}")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except csv.Error as error:
        raise DatasetError(f"{table} is no table of comma-separated values: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read {table}: {error.strerror}; check the path and its permissions") from error
    if mistakes:
        raise DatasetError(f"{table}: {list_some(mistakes)}")
    return rows


def _csv_lines(file: Any, suffix: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Each row after the header by its columns, or what is wrong with it; a lone header gives nothing."""
    reader = csv.reader(file, delimiter="\t" if suffix == ".tsv" else ",", strict=True)
    header: list[str] | None = None
    for fields in reader:
        if not any(field.strip() for field in fields):
            continue
        if header is None:
            header = [field.strip() for field in fields]
        elif len(fields) != len(header):
            yield reader.line_num, f"has {len(fields)} fields where the header has {len(header)}"
        else:
            yield reader.line_num, dict(zip(header, fields, strict=True))


def _json_lines(file: Any, suffix: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, f"is no JSON ({error})"
            continue
        yield (
            number,
            fields if isinstance(fields, dict) else 'is no JSON object: write {"path": ...} with all columns in it',
        )


def _columns(table: Path, found: list[str], image_column: str, label_column: str, labelling: Labelling) -> _Columns:
    mistakes = []
    chosen = []
    for kind, option, asked, usual in (
        ("paths", "image_column", image_column, _IMAGE_COLUMNS),
        (f"{labelling.short}s", labelling.option, label_column, labelling.columns),
    ):
        name = next((name for name in ((asked,) if asked else usual) if name in found), None)
        chosen.append(name or "")
        if name is None:
            wanted = repr(asked) if asked else " or ".join(map(repr, usual))
            mistakes.append(f"has no column {wanted} of {kind}: name it in the header, or say which with {option}")
    if mistakes:
        listed = ", ".join(map(repr, found))
        raise DatasetError(f"{table} {'; and it '.join(mistakes)} (its columns are {listed})")
    return _Columns(chosen[0], chosen[1], _SPLIT_COLUMN in found)


def _rows(line: int, fields: dict[str, Any] | str, columns: _Columns | None, labelling: Labelling) -> list[Row]:
    """A row for each label of the image on one line."""
    if isinstance(fields, str) or columns is None:
        raise _RowError(fields)
    path, label = fields.get(columns.image), fields.get(columns.label)
    if not isinstance(path, str) or not path.strip():
        raise _RowError(f"has no path in {columns.image!r}")
    labels = label if labelling.several and isinstance(label, list) else [label]
    for one in labels:
        if isinstance(one, bool) or not isinstance(one, str | int) or not str(one).strip():
            raise _RowError(f"has no {labelling.noun} in {columns.label!r}")
    if not labels:
        raise _RowError(f"has an empty list in {columns.label!r}")
    split = ""
    if columns.with_split:
        written = fields.get(_SPLIT_COLUMN)
        split = SPLIT_NAMES.get(written.strip().lower(), "") if isinstance(written, str) else ""
        if not split:
            raise _RowError(f"has the split {written!r}: write one of {', '.join(SPLIT_NAMES)}")
    return [Row(line, path.strip(), str(one).strip(), split) for one in labels]


def _check_files(table: Path, rows: list[Row], labelling: Labelling) -> None:
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
            missing.append(f"{row.path} (line {row.line})")
    mistakes = []
    if missing:
        mistakes.append(
            f"lists {len(missing):,} of {len(seen) + len(repeated):,} images that do not exist in {table.parent}: "
            f"{list_some(missing, ', ')}; paths are relative to the table's folder"
        )
    if repeated:
        remedy = "keep an image in one split" if labelling.several else "keep one line of each"
        mistakes.append(f"lists {len(repeated):,} images twice: {list_some(repeated, ', ')}; {remedy}")
    if mistakes:
        raise DatasetError(f"{table} {'; and it '.join(mistakes)}")


def _differ(one: Row, other: Row, field: str) -> bool:
    return bool(getattr(one, field) != getattr(other, field))
