"""The picture of the quickstart on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from vitsmith.cli.output import say
from vitsmith.cli.progress import TrainingProgress
from vitsmith.quickstart import STAGES, Outcome, Stage
from vitsmith.training.events import Event


class QuickstartProgress:
    """A numbered line a stage and one for what it came to; while the model learns, a bar."""

    def __init__(self) -> None:
        self._training = TrainingProgress()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._training.stop()

    def on_event(self, event: Stage | Outcome | Event) -> None:
        """Takes what the quickstart reports."""
        if isinstance(event, Stage):
            self._training.stop()
            say(f"[{event.number}/{STAGES}] {event.title}")
            if event.updates is not None:
                self._training.expect(event.updates)
        elif isinstance(event, Outcome):
            say(f"      {event.text}")
        else:
            self._training.start()
            self._training.on_event(event)
