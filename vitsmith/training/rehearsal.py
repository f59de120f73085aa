"""Makes a few real updates of a run, to measure what one takes: the same batches, steps and waits as in the run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vitsmith.errors import InputError
from vitsmith.training.loop import own_randomness
from vitsmith.training.memory.plan import is_out_of_memory
from vitsmith.training.monitor.events import ignore
from vitsmith.training.monitor.journal import Journal, Past
from vitsmith.training.monitor.stopwatch import Stopwatch
from vitsmith.training.monitor.watches import diverged
from vitsmith.training.task import TrainingTask

BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class UpdateTimes:
    """How long each of a few updates took, with what it waited for images."""

    seconds: tuple[float, ...]
    """From the end of one update to the end of the next."""
    waiting: float
    """Share of that time spent waiting for images."""
    warnings: tuple[str, ...] = ()
    """What the run would have warned of."""

    @property
    def mean(self) -> float:
        """Seconds of an update."""
        return statistics.fmean(self.seconds)

    @property
    def ends(self) -> tuple[float, float]:
        """Seconds of an update: the 5th and the 95th percentile of those that were made."""
        low, high = np.percentile(self.seconds, (5, 95))
        return float(low), float(high)


def rehearse(
    task: TrainingTask[BatchT, ResultT],
    updates: int,
    *,
    untimed: int = 0,
    on_update: Callable[[], object] = lambda: None,
) -> UpdateTimes:
    """Makes `untimed` updates and then `updates` that are timed. They change the task's weights: throw them away.

    The wait for the very first batch is not counted: in the run it is read while the run begins. All processes of a run
    call it at the same moments. Raises InputError when memory runs out or the loss is no longer a number, and
    DatasetError for too many unreadable images.
    """
    journal = Journal(Past(), ignore, task.watch)
    seconds: list[float] = []
    waited = 0.0
    try:
        with own_randomness(task.devices), closing(task.batches(0)) as batches:
            batch = next(batches)
            clock = Stopwatch()
            for step in range(untimed + updates):
                if step:
                    with clock.waiting():
                        batch = next(batches)
                loss, norm, _ = task.update(batch, step, journal)
                numbers = float(loss), float(norm)  # which waits for the device
                if not all(map(math.isfinite, numbers)):
                    raise InputError(diverged(step + 1, *numbers, task.recipe))
                taken, waiting = clock.read()
                clock.restart()
                if step >= untimed:
                    seconds.append(taken)
                    waited += waiting * taken
                on_update()
            task.complaints.share(journal)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(f"out of memory with {task.micro} {task.memory_advice}") from error
    return UpdateTimes(tuple(seconds), waited / sum(seconds), tuple(one.message for one in journal.warnings))
