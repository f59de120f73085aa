"""A data set that is a table: each image has a row with its path, its class or caption and optionally its split.

CSV and TSV files have a header line; JSON lines have one object on each line. Paths are relative to the table's folder.
Upper and lower case are the same in names of columns. A .csv may be separated by ';' or tabs, as spreadsheets of some
countries write it.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from vitsmith.data.sets.labelling import CLASSES, UNLABELLED, Labelling
from vitsmith.data.sets.samples import Samples, Source, label_positions, list_some, sort_classes
from vitsmith.data.sets.split_names import split_of
from vitsmith.data.sets.tables.image_paths import Row, check_files, with_slashes
from vitsmith.errors import DatasetError
from vitsmith.files.regular import open_regular
from vitsmith.json_text import parse_json

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")

_IMAGE_COLUMNS = ("path", "image", "file", "filename", "file_name", "filepath", "filepaths", "file_path", "image_path")
_SPLIT_COLUMN = "split"
_PERHAPS_SPLIT = ("subset", "partition", "set", "phase", "usage", "dataset", "data set", "data_set", "mode")
"""Columns that may name a split; they count as such when the first row has the name of a split there."""
_LONGEST_LINE = 1 << 20  # characters; csv.field_size_limit() also limits each field of a .csv
_SEPARATORS = {".csv": ",;\t", ".tsv": "\t,;"}


class _RowError(Exception):
    """A mistake in one line."""


class _Columns(NamedTuple):
    """The names of the columns that are read."""

    image: str
    label: str
    split: str
    """Empty when there is no such column."""
    unread: tuple[str, ...]
    """Other columns that seem to divide the images into splits."""


def find_table(
    path: str | os.PathLike[str], *, image_column: str = "", label_column: str = "", labelling: Labelling = CLASSES
) -> Source:
    """The images that a table lists, in the splits that its column 'split' names, if it has one.

    Without `image_column` the first of 'path', 'image', 'file', 'filename' and the like is taken, and without
    `label_column` the first of the usual ones, 'label' and 'class' for classes. No image is opened. Where images may
    have several labels, each is a sample of its own. Where labels are not used (`UNLABELLED`), no column of them is
    needed, and an image that is listed several times is one sample.

    Raises DatasetError, with the number of the line, for a table that cannot be read, missing columns, rows without
    path or label, unknown splits, images listed twice where only one label is allowed, or in two splits, and files that
    do not exist (with their number).
    """
    table = Path(path)
    rows, unread = _read_rows(table, image_column, label_column, labelling)
    if not rows:
        raise DatasetError(f"{table} lists no images: write one row for each image")
    rows = with_slashes(table, rows)
    check_files(table, rows, labelling)
    if labelling is UNLABELLED:
        first: dict[tuple[str, str], Row] = {}
        for row in rows:
            first.setdefault((row.path, row.split), row)
        rows = list(first.values())
    parts: dict[str, Callable[[], Samples]] = {}
    for split in dict.fromkeys(row.split for row in rows):
        parts[split] = partial(_samples, table.parent, [row for row in rows if row.split == split])
    remarks = [
        f"the column {name!r} of {table} is not read: a column 'split' with train, val or test divides the images"
        for name in unread
    ]
    return Source(table.stem, str(table), parts, tuple(remarks))


def _samples(folder: Path, rows: list[Row]) -> Samples:
    classes = sort_classes(row.label for row in rows)
    return Samples(
        classes=classes,
        sources=[os.path.join(folder, row.path) for row in rows],  # noqa: PTH118 - a Path takes five times the memory
        names=[row.path.replace(os.sep, "/") for row in rows],
        labels=label_positions([row.label for row in rows], classes),
    )


def _read_rows(
    table: Path, image_column: str, label_column: str, labelling: Labelling
) -> tuple[list[Row], tuple[str, ...]]:
    """The rows, and the columns that seem to divide them into splits but are not read."""
    rows: list[Row] = []
    mistakes: list[str] = []
    columns: _Columns | None = None
    spellings: dict[str, str] = {}
    for line, fields in table_lines(table):
        if columns is None and isinstance(fields, dict):
            columns = _columns(table, fields, image_column, label_column, labelling)
        try:
            rows += _rows(line, fields, columns, labelling, spellings)
        except _RowError as mistake:
            mistakes.append(f"line {line}: {mistake}")
    if mistakes:
        raise DatasetError(f"{table}: {list_some(mistakes)}")
    return rows, columns.unread if columns else ()


def table_lines(table: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield the number of each line of a table with its fields by column, or its mistake. Raises DatasetError."""
    lines = _json_lines if table.suffix.lower() in (".jsonl", ".ndjson") else _csv_lines
    try:
        with open_regular(table) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
            yield from lines(_short_lines(file), table.suffix.lower())
    except UnicodeDecodeError as error:
        raise DatasetError(f"{table} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
    except _RowError as error:
        raise DatasetError(f"{table} cannot be read as a table: {error}") from error
    except OSError as error:
        raise DatasetError(f"cannot read {table}: {error.strerror}; check the path and its permissions") from error


def image_column_of(first: dict[str, Any], asked: str) -> str:
    """The column of paths, from the first row: the one that is `asked` for, or one with a usual name; '' for none."""
    return _find(first, (asked,) if asked else _IMAGE_COLUMNS)


def _short_lines(file: io.TextIOWrapper) -> Iterator[str]:
    """The lines of a text file; a line that is too long to be text is refused."""
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if "\0" in line:
            raise _RowError(
                f"line {number} holds a NUL character: save it as UTF-8 text (it may be UTF-16, or no text)"
            )
        if len(line) == _LONGEST_LINE and not line.endswith("\n"):
            raise _RowError(f"line {number} is longer than {_LONGEST_LINE:,} characters")
        yield line


def _csv_lines(file: Iterator[str], suffix: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield for each row after the header its number and its fields by column, or its mistake."""
    blank, first = next(((number, line) for number, line in enumerate(file) if line.strip()), (0, ""))
    separators = _SEPARATORS.get(suffix, ",")
    separator = next((one for one in separators if one in first), separators[0])
    reader = csv.reader(_again(first, file), delimiter=separator, strict=True)
    header: list[str] | None = None
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            if header is None:
                header = [field.strip() for field in fields]
                twice = [name for at, name in enumerate(header) if name and name in header[:at]]
                if twice:
                    raise _RowError(f"its header names the column {twice[0]!r} twice: rename or remove one")
            elif len(fields) != len(header):
                yield reader.line_num + blank, f"has {len(fields)} fields where the header has {len(header)}"
            else:
                yield reader.line_num + blank, dict(zip(header, fields, strict=True))
    except csv.Error as error:
        told = f"{error}"
        if "field limit" in told or "end of data" in told:
            told += '; perhaps a quote (") before it does not close'
        raise _RowError(f"{told} (line {reader.line_num + blank})") from error


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


def _json_lines(file: Iterator[str], suffix: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            fields = parse_json(line, "", error=DatasetError)
        except DatasetError as error:
            yield number, str(error)
            continue
        yield (
            number,
            fields if isinstance(fields, dict) else 'is not a JSON object: write {"path": ...} with all columns in it',
        )


def _columns(
    table: Path, first: dict[str, Any], image_column: str, label_column: str, labelling: Labelling
) -> _Columns:
    """The names of the columns, from the header and the first row. Raises DatasetError."""
    mistakes = []
    chosen = []
    for kind, option, asked, usual in (
        ("paths", "image_column", image_column, _IMAGE_COLUMNS),
        (f"{labelling.short}s", labelling.option, label_column, labelling.columns),
    ):
        name = _find(first, (asked,) if asked else usual)
        chosen.append(name)
        if not name and (asked or usual):
            wanted = repr(asked) if asked else " or ".join(map(repr, usual[:4]))
            mistakes.append(f"has no column {wanted} of {kind}: name it in the header, or give its name with {option}")
    if mistakes:
        listed = ", ".join(map(repr, list(first)[:20]))
        raise DatasetError(f"{table} {'; and it '.join(mistakes)} (its columns are {listed})")
    split = _find(first, (_SPLIT_COLUMN,))
    perhaps = _find(first, _PERHAPS_SPLIT)
    if not split and perhaps not in chosen and isinstance(first.get(perhaps), str) and split_of(first[perhaps]):
        split = perhaps
    unread = tuple(name for name, value in first.items() if name not in (*chosen, split) and _divides(name, value))
    return _Columns(chosen[0], chosen[1], split, unread)


def _divides(name: str, value: object) -> bool:
    """Whether a column seems to divide the images into splits: 'is_valid', 'fold', or one that begins with 'train'."""
    plain = name.strip().lower()
    return bool(
        plain.removeprefix("k") in ("fold", "folds")
        or split_of(plain.removeprefix("is_"))
        or (isinstance(value, str) and split_of(value))
    )


def _find(found: dict[str, Any], wanted: tuple[str, ...]) -> str:
    """The first of `wanted` that is a column, by exact name or else in any case; empty for none."""
    by_lower = {name.strip().lower(): name for name in reversed(found)}
    exact = next((name for name in wanted if name in found), "")
    return exact or next((by_lower[name.lower()] for name in wanted if name.lower() in by_lower), "")


def _rows(
    line: int, fields: dict[str, Any] | str, columns: _Columns | None, labelling: Labelling, spellings: dict[str, str]
) -> list[Row]:
    """The rows of one line: one for each label of the image."""
    if isinstance(fields, str) or columns is None:
        raise _RowError(fields)
    path, label = fields.get(columns.image), fields.get(columns.label)
    if not isinstance(path, str) or not path.strip():
        raise _RowError(f"has no path in {columns.image!r}")
    if not columns.label:
        return [Row(line, path.strip(), "", _split(fields, columns, spellings))]
    labels = label if labelling.several and isinstance(label, list) else [label]
    for one in labels:
        if isinstance(one, bool) or not isinstance(one, str | int) or not str(one).strip():
            raise _RowError(f"has no {labelling.noun} in {columns.label!r}")
    if not labels:
        raise _RowError(f"has an empty list in {columns.label!r}")
    split = _split(fields, columns, spellings)
    return [Row(line, path.strip(), str(one).strip(), split) for one in labels]


def _split(fields: dict[str, Any], columns: _Columns, spellings: dict[str, str]) -> str:
    """The split of one row; `spellings` keeps the first spelling of each."""
    if not columns.split:
        if late := _find(fields, (_SPLIT_COLUMN,)):
            raise _RowError(f"has {late!r}, which the first row does not have: write it in every row")
        return ""
    written = fields.get(columns.split)
    split = split_of(written) if isinstance(written, str) else ""
    if not isinstance(written, str) or not split:
        raise _RowError(f"has the split {written!r}: write train, val or test")
    first = spellings.setdefault(split, written.strip())
    # 'val' and 'validation' are spellings of one word; 'dev' and 'eval' are two words, and may be two splits.
    if first[0].lower() != written.strip()[0].lower():
        raise _RowError(
            f"has the split {written!r}, and other rows {first!r}: both are names for {split}; write only one of them"
        )
    return split
