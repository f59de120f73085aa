"""What happened in a run before this process resumed it."""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.training.monitor.events import Evaluated, StepDone, Warned


@dataclass(frozen=True)
class Past:
    """What happened before this process resumed the run."""

    step: int = 0
    """How many updates are done."""
    history: tuple[StepDone, ...] = ()
    evaluations: tuple[Evaluated, ...] = ()
    warnings: tuple[Warned, ...] = ()
