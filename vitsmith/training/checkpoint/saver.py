"""Saves a run: after every so many updates, and when it is asked to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from vitsmith.errors import NotFiniteError
from vitsmith.finite import require_finite
from vitsmith.training.checkpoint.disk import CheckpointWriter, step_of
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices
from vitsmith.training.monitor.events import Saved
from vitsmith.training.stop import Stopped, StopRequest


class Saver:
    """The checkpoints of one run; all processes call its methods at the same moments.

    Args:
        state: what is saved.
        writer: in the main process; None in the others, which only take part in gathering.
        every: updates between checkpoints; 0: only when asked to stop.
        report: is called for each checkpoint once it is on disk.
    """

    def __init__(
        self,
        state: TrainingState,
        writer: CheckpointWriter | None,
        stop: StopRequest,
        devices: Devices,
        *,
        every: int,
        report: Callable[[Saved], None],
    ) -> None:
        self._state, self._writer, self._stop, self._devices = state, writer, stop, devices
        self._every, self._report = every, report
        self._stopping = False

    def due(self, done: int) -> bool:
        """Whether to save after `done` updates: because it is time, or because any process was asked to stop."""
        self._stopping = self._devices.any(self._stop.asked)
        return self._stopping or bool(self._every and done % self._every == 0)

    def save(self, done: int, facts: dict[str, Any]) -> None:
        """Begins to write a checkpoint, once the one before it is complete. Raises OutputError for that one.

        Raises NotFiniteError for weights or optimizer state that are NaN or infinite: such a run cannot be resumed.
        """
        tensors = self._state.state(keep=self._writer is not None)
        self._require_finite(done, tensors)
        self._report_complete(wait=True)
        if self._writer is not None:
            self._writer.save(done, tensors, facts)

    def go_on(self, done: int) -> None:
        """Reports complete checkpoints. Raises Stopped when the run was asked to stop, with everything on disk."""
        self._report_complete(wait=self._stopping)
        if self._stopping:
            raise Stopped(done)

    def _require_finite(self, done: int, tensors: Mapping[str, Tensor]) -> None:
        """Raises in all processes, though only one holds the tensors: the others would wait for it."""
        told = ""
        try:
            advice = "training diverged, and this state was not saved: lower optimizer.lr, or set optimizer.clip to 1"
            require_finite(tensors.items(), f"the run, after {done} updates,", advice)
        except NotFiniteError as error:
            told = str(error)
        if self._devices.any(bool(told)):
            raise NotFiniteError(told or f"training diverged after {done} updates: see the main process's message")

    def _report_complete(self, *, wait: bool) -> None:
        if self._writer is not None:
            folder = self._writer.wait() if wait else self._writer.finished()
            if folder is not None:
                self._report(Saved(step_of(folder), folder))
