"""What just missed, what would have to give for a better model, and the nearest to an impossible budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vitsmith.choosing.figures import Budgets, MarkedFigure, Standing, excess, judge, relaxed
from vitsmith.choosing.rank import TIE
from vitsmith.choosing.recommendation import Recommendation

MOST_MISSED = 5
"""Checkpoints that just missed and are told."""


@dataclass(frozen=True)
class Missed:
    """A candidate that misses budgets, and by how much."""

    row: Recommendation
    excess: dict[str, float]
    """Budget that is missed -> the factor by which the worse end of the figure exceeds it, above 1."""

    @property
    def worst(self) -> float:
        return max(self.excess.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return self.row.to_dict() | {"excess": dict(self.excess)}


@dataclass(frozen=True)
class Relaxation:
    """The least change of one budget, all others kept, that admits a better candidate."""

    budget: str
    limit: float
    """As it would have to be; the whole interval of the candidate's figure is within it."""
    asked: float
    row: Recommendation

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"budget": self.budget, "limit": self.limit, "asked": self.asked, "row": self.row.to_dict()}


def missed_by(row: Recommendation, budgets: Budgets) -> Missed | None:
    """By how much a candidate misses, with the worse ends of its intervals; None where it misses nothing."""
    found = {
        name: factor
        for name, limit in budgets.items()
        if (figure := row.figure(name)) is not None and (factor := excess(name, limit, figure)) > 1
    }
    return Missed(row, found) if found else None


def just_missed(
    candidates: Sequence[Recommendation], budgets: Budgets, best: Recommendation | None, *, tie: float = TIE
) -> list[Missed]:
    """Checkpoints that are more accurate than the best and miss a budget, each in the setup that misses least."""
    least = _least(best, tie)
    nearest: dict[tuple[str, tuple[int, int]], Missed] = {}
    for row in candidates:
        if row.counted > least and row.key != (best and best.key) and (missed := missed_by(row, budgets)):
            known = nearest.get(row.key)
            if known is None or missed.worst < known.worst:
                nearest[row.key] = missed
    return sorted(nearest.values(), key=lambda one: (one.worst, -one.row.counted, one.row.source))[:MOST_MISSED]


def relaxations(
    candidates: Sequence[Recommendation], budgets: Budgets, best: Recommendation | None, *, tie: float = TIE
) -> list[Relaxation]:
    """For each budget the least relaxation that admits a candidate more accurate than the best by more than a tie."""
    least, found = _least(best, tie), []
    for name, asked in budgets.items():
        others = {other: limit for other, limit in budgets.items() if other != name}
        able: list[tuple[float, float, str, Recommendation, MarkedFigure]] = []
        for row in candidates:
            figure = row.figure(name)
            if figure is None or row.counted <= least or row.key == (best and best.key):
                continue
            if judge(name, asked, figure) in (Standing.within, Standing.kept):
                continue
            if missed_by(row, others) is None:
                able.append((excess(name, asked, figure), -row.counted, row.source, row, figure))
        if able:
            _, _, _, row, figure = min(able, key=lambda one: one[:3])
            found.append(Relaxation(name, relaxed(name, figure), asked, row))
    return found


def nearest(candidates: Sequence[Recommendation], budgets: Budgets) -> Missed | None:
    """The candidate that misses least where none keeps all budgets; among equals the most accurate."""
    missed = [one for row in candidates if (one := missed_by(row, budgets))]
    return min(missed, key=lambda one: (one.worst, -one.row.counted, one.row.source), default=None)


@dataclass(frozen=True)
class Blame:
    """Which budget makes a request impossible."""

    budget: str
    alone: bool
    """Whether no candidate keeps this budget even if there were no other."""
    best: MarkedFigure
    """The best figure that any candidate has for it; with the other budgets kept, unless `alone`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {"budget": self.budget, "alone": self.alone, "best": self.best.to_dict()}


def blame(candidates: Sequence[Recommendation], budgets: Budgets) -> list[Blame]:
    """The budgets to blame where each candidate surely misses one.

    Those that all of them miss; where there are none, those without which some candidate might keep the rest; where
    there are none of these either, no single budget is to blame, and the list is empty.
    """
    missing = [_surely_missed(row, budgets) for row in candidates]
    everywhere = [name for name in budgets if missing and all(name in missed for missed in missing)]
    found = []
    for name, limit in budgets.items():
        rows = [row for row, missed in zip(candidates, missing, strict=True) if not missed - {name}]
        if everywhere and name not in everywhere:
            continue
        if best := _best_figure(candidates if everywhere else rows, name, limit):
            found.append(Blame(name, bool(everywhere), best))
    return found


def _surely_missed(row: Recommendation, budgets: Budgets) -> set[str]:
    return {name for name, limit in budgets.items() if judge(name, limit, row.figure(name)) == Standing.misses}


def _best_figure(rows: Sequence[Recommendation], name: str, limit: float) -> MarkedFigure | None:
    figures = [figure for row in rows if (figure := row.figure(name)) is not None]
    return min(figures, key=lambda one: excess(name, limit, one), default=None)


def _least(best: Recommendation | None, tie: float) -> float:
    return float("-inf") if best is None else best.counted + tie
