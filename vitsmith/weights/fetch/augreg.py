"""Chooses among the 50,000 checkpoints of "How to train your ViT?" (AugReg, arXiv 2106.10270).

    augreg:B_16                        the recommended pre-training: the best of ImageNet-21k by final_val
    augreg:B_16@384                    that one, fine-tuned on ImageNet at 384 pixels
    augreg:B_16?ds=i1k&aug=light1      the best pre-training with these columns in the index; ds=i21k unless given
    augreg:B_16?adapt_ds=cifar100&wd<=0.03
                                       with any adapt_ column: the best fine-tuning; adapt_ds=imagenet2012 unless given
    augreg:B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0
                                       this file

A model may be spelled in any way that `find_preset` knows. A row of the index is a pre-training ("filename") with one
of its fine-tunings ("adapt_filename"); get_augreg_df in vit_jax/checkpoint.py describes the columns.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from vitsmith.errors import DownloadError, InputError, UnknownNameError
from vitsmith.fields import Frozen
from vitsmith.models.presets import find_preset
from vitsmith.specs import Head
from vitsmith.weights.fetch.addresses import ORIGIN
from vitsmith.weights.fetch.augreg_index import AugregRow, read_index
from vitsmith.weights.fetch.download import download
from vitsmith.weights.fetch.published import find_checkpoint

PREFIX = "augreg:"
FOLDER = f"{ORIGIN}/vit_models/augreg"
INDEX_URL = f"{FOLDER}/index.csv"
PRETRAINING_RESOLUTION = 224
DATASETS = {"i1k": "imagenet2012", "i21k": "imagenet21k", "i21k_30": "imagenet21k"}
"""Column ds: ImageNet, and ImageNet-21k for 300 and for 30 epochs."""

_PRETRAINING = re.compile(r"(?:\d|[a-z])-(?:i1k|i21k)-\d+ep-")
"""What follows the model in the name of every file: 'B_16-i21k-300ep-lr_0.001-...'."""


class AugregFile(Frozen):
    """A chosen checkpoint."""

    filename: str = Field(description="without .npz")
    url: str
    model: str = Field(description="canonical name of its architecture")
    resolution: int = Field(description="side of the square images it was trained on, in pixels")
    dataset: str = Field(description="what it was trained on last")
    accuracy: float | None = Field(None, description="top-1 in % on the test split of `dataset`, where known")
    note: str = Field("", description="what the user should know of the choice")


@dataclass(frozen=True)
class _Condition:
    column: str
    symbol: str
    value: str | float

    def holds(self, row: AugregRow) -> bool:
        cell = getattr(row, self.column)
        return cell is not None and _OPERATORS[self.symbol](cell, self.value)

    def __str__(self) -> str:
        value = self.value if isinstance(self.value, str) else f"{self.value:g}"
        return f"{self.column}{self.symbol}{value}"


_OPERATORS: dict[str, Callable[..., bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}


def augreg_head(name: str) -> Head | None:
    """What the outputs of an AugReg file mean, by its name; None for any other name.

    Pre-training was by sigmoid, fine-tuning ('--' in the name) by softmax. Source: `config.loss` in vit_i21k.py and
    vit_i1k.py of big_vision's configurations.
    """
    found = _PRETRAINING.search(name)
    return None if found is None else "softmax" if "--" in name[found.end() :] else "sigmoid"


def find_augreg(name: str, *, directory: Path | None = None, progress: bool = True) -> AugregFile:
    """The checkpoint that `name` means (see the top of this file), found in the index, which is downloaded once.

    The name of a file needs no index. Without one, the recommended files are those of the original's README, and the
    note says so; anything else raises DownloadError. Raises UnknownNameError and InputError as `select` does.
    """
    model, rest = _split(name)
    if rest.startswith("-"):
        return _of_stem(model, augreg_name(model) + rest)
    try:
        index = download(INDEX_URL, directory=directory, progress=progress)
    except DownloadError:
        recommended = None if rest.startswith("?") else _recommended(model, rest)
        if recommended is None:
            raise
        return recommended.model_copy(update={"note": "recommended by the README; the index could not be fetched"})
    return select(read_index(index), name)


def select(rows: Sequence[AugregRow], query: str) -> AugregFile:
    """The file among `rows` that `query` means (see the top of this file; 'augreg:' may be left out).

    Raises UnknownNameError for a model, column or file that is not in the index, and InputError for a query that
    cannot be read or that no row meets; both list the choices.
    """
    model, rest = _split(query)
    name = augreg_name(model)
    of_model = [row for row in rows if row.filename.split("-")[0] == name]
    if not of_model:
        raise UnknownNameError("AugReg model", name, {row.filename.split("-")[0] for row in rows})
    if rest.startswith("-"):
        return _named(of_model, model, name + rest)
    if rest.startswith("?"):
        return _queried(of_model, model, rest[1:])
    best = _best(_meeting(of_model, [_Condition("ds", "=", "i21k")]), "final_val")
    if not rest:
        return _pretraining(best, model)
    fine_tunings = [row for row in of_model if row.filename == best.filename]
    wanted = [_Condition("adapt_ds", "=", "imagenet2012"), _Condition("adapt_resolution", "=", float(rest[1:]))]
    return _fine_tuning(_best(_meeting(fine_tunings, wanted), "adapt_final_val"), model)


def augreg_name(model: str) -> str:
    """'R50_L_32' for 'R50+ViT-L_32': the original's file names need no escaping (configs/models.py)."""
    return model.replace("ViT-", "").replace("+", "_")


def _split(name: str) -> tuple[str, str]:
    """(canonical model, rest) of a name; the rest is '', '@384', '?ds=i1k', or '-i21k-...' in the name of a file."""
    bare = name.removeprefix(PREFIX).removesuffix(".npz")
    match = re.fullmatch(r"(\w+)(-i\d+k\w*-.+)", bare) or re.fullmatch(r"([^@?]+)(|@\d+|\?.+)", bare)
    if match is None:
        raise InputError(f"cannot read {name!r}: write {PREFIX}B_16, {PREFIX}B_16@384 or {PREFIX}B_16?ds=i1k&wd<=0.03")
    preset, size = find_preset(match[1])
    if size is not None:
        raise InputError(f"cannot read {name!r}: write {PREFIX}{augreg_name(preset.name)}@{size} for {size} pixels")
    return preset.name, match[2]


def _queried(rows: Sequence[AugregRow], model: str, text: str) -> AugregFile:
    conditions = [_condition(part) for part in text.split("&")]
    given = {condition.column for condition in conditions}
    adapt = any(column.startswith("adapt_") for column in given)
    # Scores of different data sets cannot be ranked against each other: one is chosen when the query leaves it open.
    if adapt and "adapt_ds" not in given:
        conditions.append(_Condition("adapt_ds", "=", "imagenet2012"))
    if not adapt and "ds" not in given:
        conditions.append(_Condition("ds", "=", "i21k"))
    met = _meeting(rows, conditions)
    return _fine_tuning(_best(met, "adapt_final_val"), model) if adapt else _pretraining(_best(met, "final_val"), model)


def _condition(text: str) -> _Condition:
    match = re.fullmatch(r"\s*(\w+)\s*(<=|>=|!=|==|=|<|>)\s*([^<>=!]+?)\s*", text)
    if match is None:
        raise InputError(f"cannot read the condition {text!r}: write column=value, with one of {' '.join(_OPERATORS)}")
    column, symbol, value = match.groups()
    if column not in AugregRow.model_fields:
        raise UnknownNameError("AugReg column", column, AugregRow.model_fields)
    if AugregRow.model_fields[column].annotation is str:
        if symbol not in ("=", "==", "!="):
            raise InputError(f"cannot read the condition {text!r}: {column} is a word, so only = and != make sense")
        return _Condition(column, symbol, value)
    try:
        number = float(value)
    except ValueError:
        raise InputError(f"cannot read the condition {text!r}: {column} is a number") from None
    return _Condition(column, symbol, number)


def _meeting(rows: Sequence[AugregRow], conditions: Sequence[_Condition]) -> Sequence[AugregRow]:
    for condition in conditions:
        met = [row for row in rows if condition.holds(row)]
        if not met:
            values = sorted({cell for row in rows if (cell := getattr(row, condition.column)) is not None})
            shown = ", ".join(map(str, values if len(values) <= 8 else (*values[:4], "...", *values[-3:])))
            others = " and ".join(str(other) for other in conditions[: conditions.index(condition)])
            raise InputError(
                f"no AugReg file of {rows[0].name} has {condition}{' with ' + others if others else ''}; "
                f"its values of {condition.column} are {shown or 'not known'}"
            )
        rows = met
    return rows


def _best(rows: Sequence[AugregRow], score: str) -> AugregRow:
    """The row with the highest score; a row without one is the last choice."""
    return max(rows, key=lambda row: -math.inf if getattr(row, score) is None else getattr(row, score))


def _named(rows: Sequence[AugregRow], model: str, stem: str) -> AugregFile:
    for row in rows:
        if row.adapt_filename == stem:
            return _fine_tuning(row, model)
        if row.filename == stem:
            return _pretraining(row, model)
    raise UnknownNameError("AugReg file", stem, {name for row in rows for name in (row.filename, row.adapt_filename)})


def _pretraining(row: AugregRow, model: str) -> AugregFile:
    dataset = DATASETS.get(row.ds, row.ds)
    return _file(row.filename, model, PRETRAINING_RESOLUTION, dataset, _percent(row.final_test))


def _fine_tuning(row: AugregRow, model: str) -> AugregFile:
    return _file(row.adapt_filename, model, row.adapt_resolution, row.adapt_ds, _percent(row.adapt_final_test))


def _of_stem(model: str, stem: str) -> AugregFile:
    """The file that a name describes by itself: B_16-i21k-300ep-...[--imagenet2012-steps_20k-lr_0.03-res_384]."""
    pretraining, _, fine_tuning = stem.partition("--")
    if not fine_tuning:
        ds = pretraining.split("-")[1]
        return _file(stem, model, PRETRAINING_RESOLUTION, DATASETS.get(ds, ds))
    resolution = re.search(r"-res_(\d+)$", fine_tuning)
    if resolution is None:
        raise InputError(f"{stem!r} is not the name of an AugReg file: a fine-tuned one ends with -res_224 or -res_384")
    return _file(stem, model, int(resolution[1]), fine_tuning.split("-")[0])


def _recommended(model: str, at: str) -> AugregFile | None:
    """The recommended file among the published rows: the pre-training, or its fine-tuning '@384'; None if not there."""
    try:
        row = find_checkpoint(f"{model}.augreg-" + (f"imagenet2012-{at[1:]}" if at else "i21k"))
    except UnknownNameError:
        return None
    return _file(row.stem, model, row.resolution, row.dataset, row.accuracy)


def _file(stem: str, model: str, resolution: int, dataset: str, accuracy: float | None = None) -> AugregFile:
    return AugregFile(
        filename=stem,
        url=f"{FOLDER}/{stem}.npz",
        model=model,
        resolution=resolution,
        dataset=dataset,
        accuracy=accuracy,
    )


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 2)
