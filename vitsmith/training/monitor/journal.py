"""What happened in a run: before this process resumed it, and since then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitsmith.training.monitor.events import (
    Evaluated,
    EvaluationEvent,
    Event,
    Listener,
    LitEvaluation,
    StepDone,
    Warned,
)


@dataclass(frozen=True)
class Past:
    """What happened before this process resumed the run."""

    step: int = 0
    """How many updates are done."""
    history: tuple[StepDone, ...] = ()
    evaluations: tuple[EvaluationEvent, ...] = ()
    warnings: tuple[Warned, ...] = ()


class Journal:
    """Keeps the events of a run from its first update on, and passes each to a listener and to `watch`.

    `watch` returns warnings. It also gets the updates and evaluations of the past, which were warned of then.
    """

    def __init__(self, past: Past, listener: Listener, watch: Callable[[Event], list[str]]) -> None:
        self.step = past.step
        """How many updates are done."""
        self.history, self.evaluations, self.warnings = [*past.history], [*past.evaluations], [*past.warnings]
        self._listener, self._watch = listener, watch
        events: list[StepDone | EvaluationEvent] = [*past.history, *past.evaluations]
        for event in sorted(events, key=lambda event: event.step):
            watch(event)

    def report(self, event: Event) -> None:
        """Takes the next event, and reports what there is to warn of after it."""
        match event:
            case StepDone():
                self.history.append(event)
                self.step = event.step
            case Evaluated() | LitEvaluation():
                self.evaluations.append(event)
            case Warned():
                self.warnings.append(event)
        self._listener(event)
        for message in self._watch(event):
            self.report(Warned(event.step, message))

    def warn(self, message: str) -> None:
        """Reports a warning after the last update."""
        self.report(Warned(self.step, message))
