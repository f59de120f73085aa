"""The training loop: reads batches, makes updates, evaluations and checkpoints, and reports each to a listener.

It prints nothing. It can begin at any update and end after any; the results do not depend on where.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from vitsmith.errors import InputError
from vitsmith.training.checkpoint.disk import CheckpointWriter
from vitsmith.training.checkpoint.saver import Saver
from vitsmith.training.devices import Devices
from vitsmith.training.memory.plan import is_out_of_memory
from vitsmith.training.monitor.events import Listener, StepDone, ignore
from vitsmith.training.monitor.journal import Journal, Past
from vitsmith.training.monitor.stopwatch import Stopwatch
from vitsmith.training.monitor.watches import diverged
from vitsmith.training.stop import StopRequest
from vitsmith.training.task import TrainingTask

BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT")

_NOTHING = Past()


@dataclass(eq=False)
class Training(Generic[BatchT, ResultT]):
    """One run in this process. `go` carries it out."""

    task: TrainingTask[BatchT, ResultT]
    stop: StopRequest
    checkpoints: CheckpointWriter | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Facts to write beside a checkpoint's tensors."""
    on_event: Listener = ignore

    def go(self, past: Past = _NOTHING) -> ResultT:
        """Trains from after `past` to the end, and leaves the model in eval mode with the weights to keep.

        The same seed on the same machine gives the same losses; torch's global random state is left as it was.
        Raises Stopped when asked to stop, DatasetError for too many images that cannot be read, OutputError when a
        checkpoint cannot be written, InputError when the loss is no longer a number.
        """
        task = self.task
        task.begin()
        self._journal = Journal(past, self.on_event, task.watch)
        self._saver = Saver(
            task.state,
            self.checkpoints,
            self.stop,
            task.devices,
            every=task.recipe.run.checkpoint_every,
            report=self._journal.report,
        )
        try:
            with own_randomness(task.devices):
                self._go_on(past.step)
            if task.state.ema is not None:
                task.state.ema.keep()
            task.state.model.eval()
            return task.finish(self._journal)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"out of memory after {self._journal.step} updates with {task.micro} {task.memory_advice}"
            ) from error

    def _go_on(self, start: int) -> None:
        task, report = self.task, self._journal.report
        steps, every = task.recipe.schedule.steps, task.recipe.run.eval_every
        if start == steps:  # stopped or killed between the last update and the end of the run
            report(task.evaluate(steps, self._journal))
            return
        with closing(task.batches(start)) as batches:
            clock = Stopwatch()
            for step in range(start, steps):
                with clock.waiting():
                    batch = next(batches)
                report(self._update(batch, step, clock))
                done = step + 1
                if done == steps:
                    self._save(done)  # before anything else can go wrong
                clock.restart()
                if done == steps or (every and done % every == 0):
                    report(task.evaluate(done, self._journal))
                    clock.restart()
                if done < steps:
                    self._save_when_due(done)

    def _update(self, batch: BatchT, step: int, clock: Stopwatch) -> StepDone:
        task = self.task
        loss, norm, rate = task.update(batch, step, self._journal)
        loss_value, norm_value = float(loss), float(norm)
        if not (np.isfinite(loss_value) and np.isfinite(norm_value)):
            raise InputError(diverged(step + 1, loss_value, norm_value, task.recipe))
        seconds, waiting = clock.read()
        speed = task.recipe.batch.size / seconds
        return StepDone(step + 1, loss_value, rate, norm_value, speed, waiting, task.peak_share(speed))

    def _save_when_due(self, done: int) -> None:
        """Saves when it is time, or when the run is asked to stop; then raises Stopped."""
        if self._saver.due(done):
            self.task.complaints.share(self._journal)
            self._save(done)
        self._saver.go_on(done)

    def _save(self, done: int) -> None:
        self._saver.save(done, {**self.facts, "micro": self.task.micro})


@contextmanager
def own_randomness(devices: Devices) -> Iterator[None]:
    """Restores torch's global generators afterwards: an update may seed them."""
    with torch.random.fork_rng(devices=[devices.device] if devices.device.type == "cuda" else []):
        yield
