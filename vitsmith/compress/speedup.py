"""How many times faster one engine is than another, measured in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vitsmith.compress.ladder import Speedup
from vitsmith.engines.base import Engine

Array = np.ndarray[Any, Any]
Clock = Callable[[], float]


class Runner:
    """One program, opened for batches, and for single images when it comes to that."""

    def __init__(self, throughput: Engine, open_latency: Callable[[], Engine]) -> None:
        self.throughput = throughput
        self._open_latency = open_latency

    @cached_property
    def latency(self) -> Engine:
        """For single images."""
        return self._open_latency()


@dataclass(frozen=True)
class Turns:
    """How often both are timed: until the time is over, but so often at least."""

    least: int = 5
    most: int = 25
    seconds: float = 15.0


def measure_speedup(
    old: Runner, new: Runner, images: Array, turns: Turns = Turns(), *, clock: Clock = time.perf_counter
) -> Speedup:
    """How much faster `new` runs float32 (batch, 3, height, width) images: medians of the ratios of all turns.

    A busy moment falls on both, so that a ratio says more than two medians would.
    """
    runs = [
        (lambda: old.throughput.run(images), lambda: new.throughput.run(images)),
        (lambda: old.latency.run(images[:1]), lambda: new.latency.run(images[:1])),
    ]
    batch, alone = (_seconds(before, after, turns, clock) for before, after in runs)
    return Speedup(
        batch=statistics.median(before / after for before, after in batch),
        alone=statistics.median(before / after for before, after in alone),
        images_per_second=len(images) / statistics.median(after for _, after in batch),
        latency_ms=1000 * statistics.median(after for _, after in alone),
    )


def _seconds(
    before: Callable[[], object], after: Callable[[], object], turns: Turns, clock: Clock
) -> list[tuple[float, float]]:
    """Times of both, turn by turn. Each runs untimed first: threads of the other may still be spinning."""
    times: list[tuple[float, float]] = []
    began = clock()
    while len(times) < turns.least or (len(times) < turns.most and clock() - began < turns.seconds):
        times.append((_timed(before, clock), _timed(after, clock)))
    return times


def _timed(run: Callable[[], object], clock: Clock) -> float:
    run()
    began = clock()
    run()
    return max(clock() - began, 1e-9)
