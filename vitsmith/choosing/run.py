"""From a request to its recommendations: candidates, their order, what is near it, and the next commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from vitsmith.choosing.candidates import Machine, candidates, eligible
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.choosing.commands import next_steps
from vitsmith.choosing.near import blame, just_missed, nearest, relaxations
from vitsmith.choosing.rank import TIE, Ranking, rank
from vitsmith.choosing.recommendation import Recommendation
from vitsmith.choosing.request import Request
from vitsmith.choosing.result import Counts, Recommendations
from vitsmith.choosing.words import why

Stage = Callable[[Ranking, Sequence[Recommendation]], Sequence[Recommendation]]
"""Given the ranking so far and all candidates: the candidates with better figures, as measured ones."""


@dataclass(frozen=True)
class Stages:
    """What is measured of candidates before they are ranked for the last time; each may be left out."""

    accuracy: Stage | None = None
    """Replaces published accuracy by that on the user's own images."""
    cost: Stage | None = None
    """Replaces predicted costs of the shortlist by measured ones."""
    tie: float = TIE
    """Points of accuracy that are no difference."""


NOTHING_MEASURED = Stages()


def recommend(
    request: Request, checkpoints: Sequence[Checkpoint], machine: Machine, stages: Stages = NOTHING_MEASURED
) -> Recommendations:
    """The ranked recommendations. Pure but for the stages: it neither reads nor writes anything."""
    rows: Sequence[Recommendation] = candidates(checkpoints, request, machine)
    ranking = rank(rows, request.budgets, tie=stages.tie)
    for stage in (stages.accuracy, stages.cost):
        if stage is not None:
            rows = stage(ranking, rows)
            ranking = rank(rows, request.budgets, tie=stages.tie)
    best, budgets = ranking.best, request.budgets
    rows = [row.judged(budgets) for row in rows]
    remarks = [*request.remarks, *machine.remarks]
    return Recommendations(
        request=request,
        ranking=ranking,
        counts=_counts(checkpoints, request, rows),
        machine=machine.title,
        why=why(ranking, budgets, stages.tie),
        just_missed=tuple(just_missed(rows, budgets, best, tie=stages.tie)) if best else (),
        relaxations=tuple(relaxations(rows, budgets, best, tie=stages.tie)),
        nearest=None if best else nearest(rows, budgets),
        blame=() if best else tuple(blame(rows, budgets)),
        steps=tuple(next_steps(best, request.task, browser=request.scenario.name == "browser")) if best else (),
        remarks=tuple(remarks),
    )


def _counts(checkpoints: Sequence[Checkpoint], request: Request, rows: Sequence[Recommendation]) -> Counts:
    other_task = [one for one in checkpoints if request.task not in one.tasks]
    able = [one for one in checkpoints if request.task in one.tasks]
    known = [one for one in able if request.metric in one.accuracy]
    return Counts(
        checkpoints=len(checkpoints),
        other_task=len(other_task),
        without_accuracy=len(able) - len(known),
        licence=sum(not eligible(one, request) for one in known),
        ranked=len({row.key for row in rows}),
        setups=len(rows),
    )
