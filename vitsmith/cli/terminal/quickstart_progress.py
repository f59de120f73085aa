"""Shows the quickstart on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from vitsmith.cli.terminal.output import say
from vitsmith.cli.terminal.training_progress import TrainingProgress
from vitsmith.training.monitor.events import Event
from vitsmith.verbs.quickstart import STAGES, Outcome, QuickstartStage


class QuickstartProgress:
    """Prints a numbered line for each stage and one for its result, and shows a bar while the model is trained."""

    def __init__(self) -> None:
        self._training = TrainingProgress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._training.stop()

    def on_event(self, event: QuickstartStage | Outcome | Event) -> None:
        """Shows an event of the quickstart."""
        if isinstance(event, QuickstartStage):
            self._training.stop()
            say(f"[{event.number}/{STAGES}] {event.title}")
            if event.updates is not None:
                self._training.expect(event.updates)
        elif isinstance(event, Outcome):
            say(f"      {event.text}")
        else:
            self._training.start()
            self._training.on_event(event)
