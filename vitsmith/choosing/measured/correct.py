"""The rows after some of them were measured: their figures replace predictions, and the others are scaled."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from vitsmith.choosing.figures import Mark, MarkedFigure
from vitsmith.choosing.measured.times import MeasuredRow
from vitsmith.choosing.recommendation import Recommendation

FIGURES = ("latency", "median", "throughput", "memory", "size")
Name = tuple[str, tuple[int, int], str]


def name_of(row: Recommendation) -> Name:
    """What tells a row from all others: checkpoint, image size and setup."""
    return row.source, row.image_size, str(row.setup)


def corrected(rows: Sequence[Recommendation], measured: Mapping[Name, MeasuredRow]) -> list[Recommendation]:
    """Measured figures in place of predicted ones; predictions of the same engine and precision times the median ratio.

    Scaled figures stay predictions with intervals as wide as before. Where none of an engine in a precision was
    measured its rows stay as they are.
    """
    ratios = _ratios(rows, measured)
    return [_corrected(row, measured.get(name_of(row)), ratios) for row in rows]


def _corrected(
    row: Recommendation, found: MeasuredRow | None, ratios: Mapping[tuple[str, str, str], tuple[float, int]]
) -> Recommendation:
    changes: dict[str, MarkedFigure | None] = {}
    for name in FIGURES:
        before: MarkedFigure | None = getattr(row, name)
        fresh = None if found is None else getattr(found, name)
        ratio, count = ratios.get((row.setup.engine, row.setup.precision, name), (1.0, 0))
        if fresh is not None:
            changes[name] = fresh
        elif before is not None and count and before.mark == Mark.predicted:
            changes[name] = _scaled(before, ratio, count)
    remarks = row.remarks if found is None else (*row.remarks, *found.remarks)
    return replace(row, **changes, remarks=remarks)  # type: ignore[arg-type]


def _ratios(
    rows: Sequence[Recommendation], measured: Mapping[Name, MeasuredRow]
) -> dict[tuple[str, str, str], tuple[float, int]]:
    """(engine, precision, figure) -> the median of measured / predicted, and of how many."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        fresh = measured.get(name_of(row))
        for name in FIGURES if fresh is not None else ():
            before, after = getattr(row, name), getattr(fresh, name)
            if before is not None and after is not None and before.mark == Mark.predicted and before.value > 0:
                key = row.setup.engine, row.setup.precision, name
                found.setdefault(key, []).append(after.value / before.value)
    return {key: (statistics.median(values), len(values)) for key, values in found.items()}


def _scaled(figure: MarkedFigure, ratio: float, count: int) -> MarkedFigure:
    told = f"{figure.source}; times {ratio:.2f}, as {count} measured here"
    return MarkedFigure(figure.value * ratio, figure.low * ratio, figure.high * ratio, figure.mark, told)
