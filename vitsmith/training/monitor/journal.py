"""What happened in a run: before this process resumed it, and since then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vitsmith.training.monitor.events import Evaluated, Evaluation, Event, Listener, LitEvaluation, StepDone, Warned

Watch = Callable[[StepDone | Evaluation], list[str]]
"""Looks at an event, and returns warnings."""


@dataclass(frozen=True)
class Past:
    """What happened before this process resumed the run."""

    step: int = 0
    """How many updates are done."""
    history: tuple[StepDone, ...] = ()
    evaluations: tuple[Evaluation, ...] = ()
    warnings: tuple[Warned, ...] = ()


class Journal:
    """Keeps the events of a run from its first update on, and passes each to a listener and to `watch`.

    `watch` also gets the events of the past, whose warnings were reported then.
    """

    def __init__(self, past: Past, listener: Listener, watch: Watch) -> None:
        self.step = past.step
        """How many updates are done."""
        self.history, self.evaluations, self.warnings = [*past.history], [*past.evaluations], [*past.warnings]
        self._listener, self._watch = listener, watch
        events: list[StepDone | Evaluation] = [*past.history, *past.evaluations]
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
        if isinstance(event, StepDone | Evaluated | LitEvaluation):
            for message in self._watch(event):
                self.report(Warned(event.step, message))

    def warn(self, message: str) -> None:
        """Reports a warning after the last update."""
        self.report(Warned(self.step, message))
