"""Events as scalars for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

from vitsmith.errors import MissingPackageError, OutputError
from vitsmith.escapes import markdown
from vitsmith.training.monitor.events import Evaluated, Event, StepDone, Warned


class TensorBoard:
    """A listener that writes into `folder`. Close it, or use `with`.

    `first_step`: where a resumed run goes on; TensorBoard then hides what was written before from that update on.
    Raises MissingPackageError without tensorboard, and OutputError for a folder that it cannot write into.
    """

    def __init__(self, folder: Path, *, first_step: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingPackageError("tensorboard", "tensorboard") from None
        try:
            str(folder).encode()
        except UnicodeEncodeError:
            raise OutputError(
                f"TensorBoard cannot write into {folder}, whose name is not UTF-8: choose another `out`, or leave "
                "run.tensorboard off"
            ) from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, event: Event) -> None:
        """Writes an event of a run."""
        if isinstance(event, StepDone):
            self._write(
                event.step,
                {
                    "train/loss": event.loss,
                    "train/learning_rate": event.learning_rate,
                    "train/gradient_norm": event.gradient_norm,
                    "speed/images_per_second": event.images_per_second,
                    "speed/waiting": event.waiting,
                    "speed/peak_share": event.peak_share,
                },
            )
        elif isinstance(event, Evaluated):
            scores = event.scores
            self._write(
                event.step,
                {
                    "held_out/top1": scores.top1,
                    "held_out/top5": scores.top5,
                    "held_out/macro_recall": scores.macro_recall,
                    "held_out/cross_entropy": scores.nll,
                    "held_out/calibration_error": scores.calibration_error,
                },
            )
            self._writer.flush()
        elif isinstance(event, Warned):
            self._writer.add_text("warnings", markdown(event.message), event.step)

    def close(self) -> None:
        """Writes what is still in memory."""
        self._writer.close()

    def _write(self, step: int, scalars: dict[str, float | None]) -> None:
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
