"""Options of `vitsmith embed`: which go together, and the columns of a table that `--columns` names."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any


def check_sync(out: Path, folder: Path, *, sync: bool, force: bool, drop_others: bool) -> None:
    """Raises InputError for options that do not go together, before any work."""
    from vitsmith.errors import InputError
    from vitsmith.retrieval.description import free_place

    if drop_others and not sync:
        raise InputError("--drop-others says what --sync removes: give --sync too")
    if sync and force:
        raise InputError("--sync keeps what has not changed, and --force begins anew: give one of them")
    if sync and folder != out:
        raise InputError(
            f"--sync follows changes in an index, a folder, and {out} is a single file: give a folder, as "
            f"--out {free_place(out.with_suffix(''))}"
        )


def columns_beside(columns: str, data: str, image_column: str, sources: list[Any]) -> list[dict[str, Any]] | None:
    """What `--columns` keeps of the table `--data`, for each source. Raises InputError."""
    from vitsmith.data.sets.tables.columns import columns_of_table
    from vitsmith.errors import InputError
    from vitsmith.retrieval.rows import rows_of

    if not columns:
        return None
    if not data:
        raise InputError("--columns names columns of the table --data: give --data too")
    names = [name.strip() for name in next(csv.reader([columns], skipinitialspace=True)) if name.strip()]
    return rows_of(columns_of_table(data, names, sources, image_column=image_column), len(sources))
