"""How many times faster one engine is than another, measured in turns."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from vitsmith.benchmark.timing import Pace, Timing, time_in_turns
from vitsmith.compress.ladder import Speedup
from vitsmith.engines.base import Engine

Array = np.ndarray[Any, Any]

PACE = Pace(seconds=3.0, turns=9)


class Runner:
    """One program, opened for batches, and for single images when it comes to that."""

    def __init__(self, throughput: Engine, open_latency: Callable[[], Engine]) -> None:
        self.throughput = throughput
        self._open_latency = open_latency

    @cached_property
    def latency(self) -> Engine:
        """For single images."""
        return self._open_latency()


def measure_speedup(old: Runner, new: Runner, images: Array, pace: Pace = PACE) -> Speedup:
    """How much faster `new` runs float32 (batch, 3, height, width) images: medians of the ratios of all turns.

    A busy moment falls on both, so that a ratio says more than two medians would. Raises what an engine raises.
    """
    batch = _in_turns(old.throughput, new.throughput, images, pace)
    alone = _in_turns(old.latency, new.latency, images[:1], pace)
    return Speedup(
        batch=batch[1].times_as_fast_as(batch[0]),
        alone=alone[1].times_as_fast_as(alone[0]),
        images_per_second=batch[1].images_per_second,
        latency_ms=alone[1].percentile_ms(50),
    )


def _in_turns(old: Engine, new: Engine, images: Array, pace: Pace) -> tuple[Timing, Timing]:
    runs = {"old": lambda: old.run(images), "new": lambda: new.run(images)}
    timings, failed = time_in_turns(runs, len(images), pace)
    for error in failed.values():
        raise error
    return timings["old"], timings["new"]
