"""Times calls in turns, so that a busy moment of the machine slows all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
Clock = Callable[[], float]

TURNS = 5
WARM_SECONDS = 0.05
"""Time of untimed calls at the start of a turn (at least one call): the last turn's threads may still be spinning."""


@dataclass(frozen=True)
class Timing:
    """Times of calls with one batch size."""

    batch: int
    turns: tuple[tuple[float, ...], ...]
    """Seconds of each call, by turn."""

    @property
    def seconds(self) -> list[float]:
        """Seconds of all calls, in order."""
        return [one for turn in self.turns for one in turn]

    @property
    def calls(self) -> int:
        """Number of timed calls."""
        return len(self.seconds)

    def percentile_ms(self, share: float) -> float:
        """Percentile `share` (0 to 100) of the times, in milliseconds."""
        return 1000 * float(np.percentile(self.seconds, share))

    @property
    def images_per_second(self) -> float:
        """Throughput of the median call."""
        return self.batch / statistics.median(self.seconds)

    def times_as_fast_as(self, other: Timing) -> float:
        """Speed-up over `other`: the median over turns of the ratio of medians; a busy moment slows both in a turn."""
        ratios = [
            statistics.median(theirs) / statistics.median(ours)
            for ours, theirs in zip(self.turns, other.turns, strict=True)
        ]
        return statistics.median(ratios)


@dataclass(frozen=True)
class Pace:
    """How long to measure."""

    seconds: float = 5.0
    """Time of the timed calls of one contender with one batch size, all turns together."""
    turns: int = TURNS
    warm: float = WARM_SECONDS
    clock: Clock = time.perf_counter


def time_in_turns(
    runs: Mapping[Key, Callable[[], object]],
    batch: int,
    pace: Pace = Pace(),
    on_turn: Callable[[Key], None] = lambda _: None,
) -> tuple[dict[Key, Timing], dict[Key, Exception]]:
    """Timings of `runs`, each of which computes one batch, and the exceptions of those that failed."""
    turns: dict[Key, list[tuple[float, ...]]] = {key: [] for key in runs}
    failed: dict[Key, Exception] = {}
    for _ in range(pace.turns):
        for key, run in runs.items():
            if key in failed:
                continue
            on_turn(key)
            try:
                turns[key].append(_take_turn(run, pace))
            except Exception as error:  # whatever a foreign runtime throws
                failed[key] = error
    return {key: Timing(batch, tuple(turns[key])) for key in runs if key not in failed}, failed


def _take_turn(run: Callable[[], object], pace: Pace) -> tuple[float, ...]:
    clock = pace.clock
    began = clock()
    while True:
        run()
        if clock() - began >= pace.warm:
            break
    seconds: list[float] = []
    began = clock()
    while not seconds or clock() - began < pace.seconds / pace.turns:
        started = clock()
        run()
        seconds.append(clock() - started)
    return tuple(seconds)
