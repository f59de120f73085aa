"""The picture of a training run on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from vitsmith.cli.output import progress, say
from vitsmith.train.loop import Evaluated, Event


class TrainingProgress:
    """A bar with loss, learning rate and images/s; each evaluation stays as a line."""

    def __init__(self, steps: int) -> None:
        self._bar = progress(unit="steps")
        self._task = self._bar.add_task("training", total=steps, note="")

    def start(self) -> None:
        """Shows the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Takes it away; a second time does nothing."""
        self._bar.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def on_event(self, event: Event) -> None:
        """Takes what the training loop reports."""
        if isinstance(event, Evaluated):
            say(f"step {event.step:>6}  held-out top-1 {event.scores.top1:.2%}  cross-entropy {event.scores.nll:.4f}")
            return
        note = f"loss {event.loss:.4f}  lr {event.learning_rate:.2g}  {event.images_per_second:.0f} images/s"
        self._bar.update(self._task, completed=event.step, note=note)
