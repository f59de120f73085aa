"""How fast engines are on this machine, and how many times faster than each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from vitsmith.engines.base import Engine
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.machine import describe_machine
from vitsmith.records import Measurement
from vitsmith.weights.measurements import latency, size, throughput

Array = np.ndarray[Any, Any]

PACE = Pace(seconds=0.4, turns=7)
"""Two small models take 3 seconds, single images and batches together; large ones make one call a turn."""


@dataclass(frozen=True)
class Speed:
    """Inference alone: neither reading nor preprocessing of images."""

    latency_ms: float
    """Median time of one image by itself, in milliseconds."""
    images_per_second: float
    """Median throughput in batches of `batch`."""
    batch: int

    def measurements(self, engine: str) -> tuple[Measurement, ...]:
        """As a bundle keeps them."""
        machine = describe_machine()
        return (
            latency(engine, 1, self.latency_ms, machine),
            throughput(engine, self.batch, self.images_per_second, machine),
        )


@dataclass(frozen=True)
class Cost:
    """What one bundle costs, and what it gives for it."""

    name: str
    """What to call it in a table."""
    engine: str
    mib: float
    """Size of its weights or program, in MiB."""
    top1: float
    speed: Speed

    def measurements(self) -> tuple[Measurement, ...]:
        """Size and speed as a bundle keeps them."""
        return (size(self.mib), *self.speed.measurements(self.engine))


class Runner:
    """One program, opened for batches, and for single images when it comes to that.

    Args:
        throughput: runs batches.
        open_latency: opens what runs single images; None: the same.
    """

    def __init__(self, throughput: Engine, open_latency: Callable[[], Engine] | None = None) -> None:
        self.throughput = throughput
        self._open_latency = open_latency

    @cached_property
    def latency(self) -> Engine:
        """For single images. Raises what opening it raises."""
        return self._open_latency() if self._open_latency else self.throughput


UNEVEN = 0.1
"""Share by which a ratio may differ from that of the medians before it is explained."""


@dataclass(frozen=True)
class Speedup:
    """Two programs beside each other, timed in turns.

    The ratios are medians over turns of the ratios of both medians in a turn: a busy moment falls on both, or spoils a
    turn. So they are surer than ratios of `before` and `after`, which are medians of all calls.
    """

    before: Speed
    after: Speed
    single: float
    """How many times faster one image by itself is."""
    batches: float
    """How many times more images a second come out of batches."""

    def __str__(self) -> str:
        return f"{self.batches:.2f} times as fast in batches of {self.after.batch}, {self.single:.2f} for one image"

    @property
    def remark(self) -> str:
        """Why the ratios are not those of the medians beside them, where a reader would see it; else nothing."""
        of_medians = (
            self.before.latency_ms / self.after.latency_ms,
            self.after.images_per_second / self.before.images_per_second,
        )
        if all(abs(ratio / of - 1) < UNEVEN for ratio, of in zip((self.single, self.batches), of_medians, strict=True)):
            return ""
        return "the machine was busy: ratios are counted turn by turn, and are surer than the medians beside them"


Race = Callable[[Runner, Runner, Array], Speedup]
"""`measure_speedup` at some pace, or what stands in for it."""


def measure_speed(engines: Sequence[Engine], images: Array, pace: Pace = PACE) -> list[Speed]:
    """Speed of each engine on float32 (batch, 3, height, width) images, in turns: single images, then batches.

    Raises what an engine raises.
    """
    return [_speed(*timings) for timings in _time([Runner(engine) for engine in engines], images, pace)]


def measure_speedup(before: Runner, after: Runner, images: Array, pace: Pace = PACE) -> Speedup:
    """How much faster `after` runs float32 (batch, 3, height, width) images, in turns: single images, then batches.

    Raises what an engine raises.
    """
    old, new = _time([before, after], images, pace)
    single, batches = (now.times_as_fast_as(then) for now, then in zip(new, old, strict=True))
    return Speedup(_speed(*old), _speed(*new), single, batches)


def _speed(single: Timing, batches: Timing) -> Speed:
    return Speed(single.percentile_ms(50), batches.images_per_second, batches.batch)


def _time(runners: Sequence[Runner], images: Array, pace: Pace) -> list[tuple[Timing, Timing]]:
    """(single images, batches) of each."""
    singles = _in_turns([runner.latency for runner in runners], images[:1], pace)
    batches = _in_turns([runner.throughput for runner in runners], images, pace)
    return list(zip(singles, batches, strict=True))


def _in_turns(engines: Sequence[Engine], images: Array, pace: Pace) -> list[Timing]:
    runs = {number: partial(engine.run, images) for number, engine in enumerate(engines)}
    timings, failed = time_in_turns(runs, len(images), pace)
    for error in failed.values():
        raise error
    return list(timings.values())
