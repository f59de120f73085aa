"""Shows a training run on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from vitsmith.cli.terminal.output import progress, say
from vitsmith.training.monitor.events import Embedded, Evaluated, Event, LitEvaluation, Saved, StepDone, Warned


class TrainingProgress:
    """A bar with loss, learning rate, images/s, share of peak and time left; evaluations and warnings stay as lines."""

    def __init__(self, steps: int | None = None) -> None:
        self._bar = progress(unit="steps")
        self._task = self._bar.add_task("training", total=steps, note="")

    def start(self) -> None:
        """Shows the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Removes the bar; a second call does nothing."""
        self._bar.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def expect(self, steps: int) -> None:
        """Sets the number of updates."""
        self._bar.update(self._task, total=steps)

    def on_event(self, event: Event) -> None:
        """Shows an event of the training loop."""
        match event:
            case Evaluated(step, scores):
                say(f"step {step:>6}  held-out top-1 {scores.top1:.2%}  cross-entropy {scores.nll:.4f}")
            case LitEvaluation():
                unseen = f"  unseen top-1 {event.unseen:.2%}" if event.unseen is not None else ""
                say(
                    f"step {event.step:>6}  recall@1 image to text {event.image_to_text[1]:.2%}, text to image "
                    f"{event.text_to_image[1]:.2%}{unseen}"
                )
            case Embedded(which, done, of):
                self._bar.update(self._task, note=f"embedding {which} images: {done:,} of {of:,}")
            case Warned(step, message):
                say(f"step {step:>6}  warning: {message}")
            case StepDone():
                self._bar.update(self._task, completed=event.step, note=_note(event))
            case Saved():
                pass


def _note(done: StepDone) -> str:
    note = f"loss {done.loss:.4f}  lr {done.learning_rate:.2g}  {done.images_per_second:.0f} images/s"
    if done.peak_share is not None:
        note += f"  {done.peak_share:.0%} of peak"
    return note
