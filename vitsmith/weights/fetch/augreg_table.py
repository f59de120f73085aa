"""The index of AugReg as a table: rows that fulfil a condition, and the best of each group, as the notebook takes them.

Source: vit_jax_augreg.ipynb of google-research/vision_transformer, "Explore checkpoints". A model's pre-training is
chosen by `final_val`, a fine-tuning by `adapt_final_val`, both on validation images; test accuracy is only reported.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.arguments import known_name
from vitsmith.conditions.condition import ColumnTable, rows_where
from vitsmith.conditions.expression import parsed
from vitsmith.errors import InputError
from vitsmith.weights.fetch.addresses import cached_path, source_of
from vitsmith.weights.fetch.augreg import INDEX_URL, PREFIX
from vitsmith.weights.fetch.augreg_index import AugregRow, read_index

RECOMMENDED = "recommended"
COLUMNS = (*AugregRow.model_fields, RECOMMENDED)
"""Columns of the index, and whether a row's pre-training has the highest final_val of its model and its data set."""
AUTHORS_CHOICE = f"{RECOMMENDED} and ds == 'i21k' and adapt_ds == 'imagenet2012'"
"""The rows of the notebook's table, which are the "i21k_300" column of the paper's table 3."""
_DATA, _USUAL_DATA = "adapt_ds", "imagenet2012"
_EXAMPLE = "write it as  name == 'B/16' and wd <= 0.03"


@dataclass(frozen=True)
class Group:
    """Rows that are alike in some columns."""

    values: tuple[Any, ...]
    """What they have in these columns."""
    count: int
    best: AugregRow
    """The one with the highest `adapt_final_val`."""

    @property
    def source(self) -> str:
        """What `load` takes for the best."""
        return f"{PREFIX}{self.best.adapt_filename}"


@dataclass(frozen=True)
class Chosen:
    """The answer to a question about the index."""

    where: str
    """The condition, with what was added to it."""
    by: tuple[str, ...]
    rows: tuple[AugregRow, ...]
    """All that fulfil it, in the order of the index."""
    groups: tuple[Group, ...]
    """Slow ones first, as in the notebook; those whose speed is not known last."""
    added: str = ""
    """The condition that was added, if one was."""


def index_rows(path: Path | None = None) -> list[AugregRow]:
    """The rows of the index in a file, or of the one in the cache.

    Raises InputError for a file that is not there, and without one in the cache; WeightsError for another file.
    """
    place = cached_path(INDEX_URL) if path is None else path
    if place.is_file():
        return read_index(place)
    if path is not None:
        raise InputError(f"{path}: no such file")
    raise InputError(
        f"the index of AugReg is not in the cache: fetch {source_of(INDEX_URL)} and give it by  "
        "vitsmith models augreg --index index.csv"
    )


def choose(rows: Sequence[AugregRow], where: str = "", by: Sequence[str] = ("name",)) -> Chosen:
    """The best fine-tuning of each group among the rows that fulfil a condition.

    Args:
        where: a condition on COLUMNS, as `conditions.condition` reads it; '' is AUTHORS_CHOICE.
        by: columns whose values make the groups.

    Scores of different data sets cannot be ranked against each other: where neither argument names `adapt_ds`, only
    fine-tunings on ImageNet are taken. Raises UnknownNameError for a column, and InputError for a condition that cannot
    be read or that no row fulfils.
    """
    for column in by:
        known_name(column, "column of AugReg's index", COLUMNS)
    expression = parsed(where or AUTHORS_CHOICE, example=_EXAMPLE)
    added = "" if {_DATA} & {*expression.columns, *by} else f"{_DATA} == '{_USUAL_DATA}'"
    best = _best_pretrainings(rows)

    def values(name: str) -> list[Any]:
        return [_value(row, name, best) for row in rows]

    fulfilled = rows_where(expression, ColumnTable(COLUMNS, values)).yes
    met = [row for row, yes in zip(rows, fulfilled.tolist(), strict=True) if yes]
    if added:
        met = [row for row in met if row.adapt_ds == _USUAL_DATA]
    told = " and ".join(filter(None, (f"({expression.text})" if added else expression.text, added)))
    if not met:
        raise InputError(f"no row of AugReg's index fulfils  {told}  (of {len(rows):,} rows)")
    grouped: dict[tuple[Any, ...], list[AugregRow]] = {}
    for row in met:
        grouped.setdefault(tuple(_value(row, name, best) for name in by), []).append(row)
    groups = [
        Group(values, len(members), max(members, key=lambda row: _score(row.adapt_final_val)))
        for values, members in grouped.items()
    ]
    groups.sort(key=lambda group: (_speed(group.best), [str(value) for value in group.values]))
    return Chosen(told, tuple(by), tuple(met), tuple(groups), added)


def _best_pretrainings(rows: Sequence[AugregRow]) -> frozenset[str]:
    """The file of each model's best pre-training on each data set."""
    best: dict[tuple[str, str], AugregRow] = {}
    for row in rows:
        key = (row.name, row.ds)
        if key not in best or _score(row.final_val) > _score(best[key].final_val):
            best[key] = row
    return frozenset(row.filename for row in best.values())


def _value(row: AugregRow, column: str, best: frozenset[str]) -> Any:
    return row.filename in best if column == RECOMMENDED else getattr(row, column)


def _score(value: float | None) -> float:
    return -math.inf if value is None else value


def _speed(row: AugregRow) -> float:
    return math.inf if row.infer_samples_per_sec is None else row.infer_samples_per_sec
