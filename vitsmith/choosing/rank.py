"""The order of candidates: what the budgets let pass first, then accuracy, and among equals the faster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vitsmith.choosing.figures import Budgets, Standing, keeps
from vitsmith.choosing.recommendation import Recommendation

TIE = 0.3
"""Points of published accuracy within which two checkpoints are equal, and the faster is better."""
_PASSES = (Standing.kept, Standing.within)
_CLASSES = {Standing.kept: 0, Standing.within: 1, Standing.may_miss: 2, Standing.unknown: 2, Standing.misses: 3}


@dataclass(frozen=True)
class Ranking:
    """All candidates, judged: each in one of three lists, the best first."""

    within: tuple[Recommendation, ...]
    """Every budget is kept by a measurement, or the whole interval of the prediction is within."""
    may_miss: tuple[Recommendation, ...]
    """A budget lies inside the interval of a prediction: only a measurement tells."""
    missed: tuple[Recommendation, ...]
    """A budget is missed by the whole interval."""
    front: tuple[Recommendation, ...]
    """The Pareto set of all: no other candidate is as accurate and faster, or as fast and more accurate."""

    @property
    def best(self) -> Recommendation | None:
        """The first that passes; else the first that may."""
        return next(iter((*self.within, *self.may_miss)), None)


def rank(candidates: Iterable[Recommendation], budgets: Budgets, *, tie: float = TIE) -> Ranking:
    """Judges candidates by their figures as they are, and orders them; of a checkpoint the best setup alone is listed.

    The best setup of a checkpoint is the one with the best standing; then the one that changes the model least, fp32
    before int8; then the fastest.
    """
    judged = [one.judged(budgets) for one in candidates]
    groups: list[list[Recommendation]] = [[] for _ in range(4)]
    for one in best_setups(judged):
        groups[_class(one)].append(one)
    kept, within, may_miss, missed = (in_order(group, tie) for group in groups)
    return Ranking((*kept, *within), tuple(may_miss), tuple(missed), pareto(judged))


def shortlist(ranking: Ranking, budgets: Budgets, count: int, *, tie: float = TIE) -> list[Recommendation]:
    """What is worth measuring: the best whose predictions are within the budgets, though their intervals may not be.

    One of them is the best whose whole intervals are within, where there is one: the surest to be kept.
    """
    hopeful = [one for one in ranking.may_miss if _hopes(one, budgets)]
    chosen = in_order([*ranking.within, *hopeful], tie)[:count] or list(ranking.may_miss[:count])
    if chosen and ranking.within and not any(one.standing in _PASSES for one in chosen):
        chosen[-1] = ranking.within[0]
    return chosen


def best_setups(judged: Iterable[Recommendation]) -> list[Recommendation]:
    """The best setup of each checkpoint, in the order in which they came."""
    best: dict[tuple[str, tuple[int, int]], Recommendation] = {}
    for one in judged:
        known = best.get(one.key)
        if known is None or _setup_key(one) < _setup_key(known):
            best[one.key] = one
    return list(best.values())


def in_order(rows: Iterable[Recommendation], tie: float = TIE) -> list[Recommendation]:
    """The most accurate first; those at most `tie` points below the most accurate of the rest are equal to it, and the
    fastest of them is first."""
    rest = sorted(rows, key=lambda one: (-one.counted, one.pace, one.source))
    ordered: list[Recommendation] = []
    while rest:
        equal = [one for one in rest if one.counted >= rest[0].counted - tie - _ROUNDING]
        ordered += sorted(equal, key=lambda one: (one.pace, -one.counted, one.source))
        rest = rest[len(equal) :]
    return ordered


def pareto(rows: Sequence[Recommendation]) -> tuple[Recommendation, ...]:
    """Those that no other beats in both counted accuracy and pace, the fastest first."""
    front: list[Recommendation] = []
    for one in sorted(rows, key=lambda one: (one.pace, -one.counted, one.source)):
        if not front or one.counted > front[-1].counted:
            front.append(one)
    return tuple(front)


_ROUNDING = 1e-9
"""86.0 - 85.7 is a little more than 0.3 in floating point, and equal to it."""


def _hopes(one: Recommendation, budgets: Budgets) -> bool:
    """Whether the numbers themselves, without their intervals, keep every budget."""
    figures = ((name, limit, one.figure(name)) for name, limit in budgets.items())
    return all(figure is None or keeps(name, limit, figure.value) for name, limit, figure in figures)


def _class(one: Recommendation) -> int:
    return _CLASSES[one.standing]


def _setup_key(one: Recommendation) -> tuple[int, float, float, str]:
    return _class(one), one.setup.allowance, one.pace, str(one.setup)
