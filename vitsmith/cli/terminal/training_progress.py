"""Shows a training run on a terminal."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import typer

from vitsmith.cli.terminal.output import progress, say
from vitsmith.errors import Interrupted
from vitsmith.escapes import shell_quoted
from vitsmith.files.atomic import optional
from vitsmith.training.monitor.events import Embedded, Evaluated, Event, LitEvaluation, Saved, StepDone, Warned
from vitsmith.training.stop import Stopped

if TYPE_CHECKING:
    from vitsmith.training.devices import Devices
    from vitsmith.training.monitor.tensorboard import TensorBoard
    from vitsmith.training.recipes.recipe import AnyRecipe


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


class TrainingDisplay:
    """A run of `verb` on the terminal of the main process; the others are silent."""

    def __init__(self, recipe: AnyRecipe, devices: Devices, folder: Path | None, verb: str = "train") -> None:
        self._speaks, self._folder, self._verb = devices.main, folder, verb
        self._bar = TrainingProgress(recipe.schedule.steps) if devices.main else None
        self._events: TensorBoard | None = None
        self.say(f"run folder: {folder}; {recipe.run.precision} on {devices.count} x {devices.device.type}")

    def write_tensorboard(self, first_step: int) -> None:
        """Also writes events for TensorBoard, from update number `first_step` on."""
        if self._speaks and self._folder is not None:
            from vitsmith.training.monitor.tensorboard import TensorBoard

            self._events = TensorBoard(self._folder / "tensorboard", first_step=first_step)

    def __enter__(self) -> None:
        if self._bar is not None:
            self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from vitsmith.training.checkpoint.disk import latest_step

        if self._bar is not None:
            self._bar.stop()
        if self._events is not None:
            with optional("TensorBoard's events"):
                self._events.close()
        saved = latest_step(self._folder) if self._folder is not None else None
        again = f"vitsmith {self._verb} --resume {shell_quoted(str(self._folder))}"
        if isinstance(error, KeyboardInterrupt) and self._folder is not None and (self._folder / "model").exists():
            raise Interrupted(f"interrupted after the last update; the bundle is {self._folder / 'model'}") from None
        if isinstance(error, KeyboardInterrupt) and saved is not None:
            raise Interrupted(f"interrupted; go on from update {saved} with  {again}") from None
        if isinstance(error, Stopped):
            if not self._speaks:
                raise typer.Exit(2)
            raise Interrupted(f"stopped after {error.step} updates, all of them saved; go on with  {again}") from None

    def say(self, message: str) -> None:
        """A remark, in the main process."""
        if self._speaks:
            say(message)

    def on_event(self, event: Any) -> None:
        """Shows an event of the run."""
        if self._bar is not None:
            self._bar.on_event(event)
        if self._events is not None:
            events, self._events = self._events, None
            with optional("TensorBoard's events"):
                events(event)
                self._events = events  # a writer that has failed is not used again


def _note(done: StepDone) -> str:
    note = f"loss {done.loss:.4f}  lr {done.learning_rate:.2g}  {done.images_per_second:.0f} images/s"
    if done.peak_share is not None:
        note += f"  {done.peak_share:.0%} of peak"
    return note
