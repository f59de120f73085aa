"""Speed of engines on this machine, and speed-up of one over another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from vitsmith.arrays import Array
from vitsmith.engines.protocol import Engine
from vitsmith.evaluation.timing import Pace, Timing, time_in_turns
from vitsmith.machine import describe_machine
from vitsmith.records import Measurement
from vitsmith.weights.bundle.measurements import latency, size, throughput

PACE = Pace(seconds=0.4, turns=7)
"""Two small models take 3 seconds, for single images and batches together; large models make one call a turn."""


@dataclass(frozen=True)
class Speed:
    """Speed of inference alone, without reading and preprocessing of images."""

    latency_ms: float
    """Median time of one image by itself, in milliseconds."""
    images_per_second: float
    """Median throughput in batches of `batch`."""
    batch: int

    def measurements(self, engine: str) -> tuple[Measurement, ...]:
        """Latency and throughput as a bundle keeps them."""
        machine = describe_machine()
        return (
            latency(engine, 1, self.latency_ms, machine),
            throughput(engine, self.batch, self.images_per_second, machine),
        )


@dataclass(frozen=True)
class MeasuredCost:
    """Accuracy and costs of one bundle."""

    name: str
    """Name in tables."""
    engine: str
    mib: float
    """Size of its weights or program, in MiB."""
    top1: float
    speed: Speed

    def measurements(self) -> tuple[Measurement, ...]:
        """Size and speed as a bundle keeps them."""
        return (size(self.mib), *self.speed.measurements(self.engine))


class Runner:
    """One program, opened for batches, and for single images on first use.

    Args:
        throughput: runs batches.
        open_latency: opens the engine for single images; None: `throughput` runs them too.
    """

    def __init__(self, throughput: Engine, open_latency: Callable[[], Engine] | None = None) -> None:
        self.throughput = throughput
        self._open_latency = open_latency

    @cached_property
    def latency(self) -> Engine:
        """The engine for single images. Raises what opening it raises."""
        return self._open_latency() if self._open_latency else self.throughput


UNEVEN = 0.1
"""Share by which a ratio may differ from that of the medians before `remark` explains it."""


@dataclass(frozen=True)
class Speedup:
    """Two programs beside each other, timed in turns.

    In each turn the ratio of the two medians is taken; `single` and `batches` are the medians of these ratios. A busy
    moment slows both programs, or spoils one turn, so they are more reliable than ratios of `before` and `after`,
    which are medians of all calls.
    """

    before: Speed
    after: Speed
    single: float
    """Speed-up for one image."""
    batches: float
    """Speed-up in batches: ratio of the images per second."""

    def __str__(self) -> str:
        return f"{self.batches:.2f} times as fast in batches of {self.after.batch}, {self.single:.2f} for one image"

    @property
    def remark(self) -> str:
        """Why the ratios differ from those of the medians; '' where they hardly differ."""
        of_medians = (
            self.before.latency_ms / self.after.latency_ms,
            self.after.images_per_second / self.before.images_per_second,
        )
        if all(abs(ratio / of - 1) < UNEVEN for ratio, of in zip((self.single, self.batches), of_medians, strict=True)):
            return ""
        return "the machine was busy: trust the ratios, taken turn by turn, more than the medians beside them"


Race = Callable[[Runner, Runner, Array], Speedup]
"""`measure_speedup` at some pace, or a replacement in tests."""


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
    """(single images, batches) timings of each runner."""
    singles = _in_turns([runner.latency for runner in runners], images[:1], pace)
    batches = _in_turns([runner.throughput for runner in runners], images, pace)
    return list(zip(singles, batches, strict=True))


def _in_turns(engines: Sequence[Engine], images: Array, pace: Pace) -> list[Timing]:
    runs = {number: partial(engine.run, images) for number, engine in enumerate(engines)}
    timings, failed = time_in_turns(runs, len(images), pace)
    for error in failed.values():
        raise error
    return list(timings.values())
