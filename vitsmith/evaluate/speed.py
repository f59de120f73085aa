"""How fast engines are on this machine, measured side by side so that a busy moment does not favour one of them."""

from __future__ import annotations

import datetime
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from vitsmith.engines.machine import describe_machine
from vitsmith.specs import Measurement

Array = np.ndarray[Any, Any]


class Runs(Protocol):
    """What can be timed: an engine, or anything like one."""

    def run(self, images: Array) -> Array:
        """Outputs for a batch of images."""


@dataclass(frozen=True)
class Speed:
    """Inference alone: neither reading nor preprocessing of images."""

    latency_ms: float
    """Median time of one image by itself, in milliseconds."""
    images_per_second: float
    """Median throughput in batches of `batch`."""
    batch: int


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
        about = {"data": "inference alone", "machine": describe_machine(), "date": datetime.date.today().isoformat()}
        speed = self.speed
        throughput = f"images_per_second ({self.engine}, batches of {speed.batch})"
        return (
            Measurement(name="size", value=self.mib, unit="MiB", date=about["date"]),
            Measurement(name=f"latency_p50 ({self.engine}, one image)", value=speed.latency_ms, unit="ms", **about),
            Measurement(name=throughput, value=speed.images_per_second, unit="images/s", **about),
        )


@dataclass(frozen=True)
class Repetitions:
    """How often everything is timed."""

    rounds: int = 7
    """Turns that each engine gets."""
    single: int = 15
    """Timed runs of one image in a turn."""
    batches: int = 3
    """Timed runs of a batch in a turn."""
    warm_up: int = 3
    """Untimed runs before either: the threads of the engine whose turn it was may still be spinning."""


def measure_speed(engines: Sequence[Runs], images: Array, repetitions: Repetitions = Repetitions()) -> list[Speed]:
    """Speed of each engine on float32 (batch, 3, height, width) images, one turn after the other, medians of all."""
    singles: list[list[float]] = [[] for _ in engines]
    batches: list[list[float]] = [[] for _ in engines]
    for _ in range(repetitions.rounds):
        for engine, single, batch in zip(engines, singles, batches, strict=True):
            single += _timed(engine, images[:1], repetitions.single, repetitions.warm_up)
            batch += _timed(engine, images, repetitions.batches, repetitions.warm_up)
    return [
        Speed(1000 * statistics.median(single), len(images) / statistics.median(batch), len(images))
        for single, batch in zip(singles, batches, strict=True)
    ]


def _timed(engine: Runs, images: Array, runs: int, warm_up: int) -> list[float]:
    for _ in range(warm_up):
        engine.run(images)
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        engine.run(images)
        seconds.append(time.perf_counter() - began)
    return seconds
