from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

import numpy as np
import pytest

from vitsmith.evaluation.speed import PACE, MeasuredCost, Runner, Speed, measure_speed, measure_speedup
from vitsmith.evaluation.timing import Pace


class Clock:
    """Time that passes only when an engine says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class SlowEngine:
    """Takes `base` seconds and `each` for an image, and a whole second more in its `spoilt` runs, counted from 1."""

    def __init__(self, clock: Clock, base: float, each: float, spoilt: Container[int] = ()) -> None:
        self._clock, self._base, self._each, self._spoilt = clock, base, each, spoilt
        self.runs = 0

    def run(self, images: np.ndarray) -> np.ndarray:
        self.runs += 1
        self._clock.now += self._base + self._each * len(images) + (self.runs in self._spoilt)
        return images


class LoggedEngine(SlowEngine):
    """Also writes down its name and how many images it was given."""

    def __init__(self, name: str, log: list[tuple[str, int]], clock: Clock, base: float, each: float) -> None:
        super().__init__(clock, base, each, spoilt=range(5, 100, 5))
        self._name, self._log = name, log

    def run(self, images: np.ndarray) -> np.ndarray:
        self._log.append((self._name, len(images)))
        return super().run(images)


class Broken:
    def run(self, images: np.ndarray) -> np.ndarray:
        raise ValueError("out of order")


IMAGES = np.zeros((8, 3, 2, 2), np.float32)


def test_medians_of_engines_that_take_turns() -> None:
    clock, log = Clock(), []
    engines = [LoggedEngine("a", log, clock, 0.010, 0.002), LoggedEngine("b", log, clock, 0.001, 0.004)]
    first, second = measure_speed(engines, IMAGES, Pace(0.0, 5, 0.0, clock))
    assert (first.latency_ms, first.batch) == (pytest.approx(12), 8)
    assert first.images_per_second == pytest.approx(8 / (0.010 + 8 * 0.002))
    assert second.latency_ms == pytest.approx(5)
    assert second.images_per_second == pytest.approx(8 / (0.001 + 8 * 0.004))
    turns = "aabb" * 5  # a warm-up before each
    assert log == [(name, batch) for batch in (1, 8) for name in turns]


def test_a_speedup_is_the_median_of_the_turns() -> None:
    """Single images run in an engine of their own where there is one, which is opened when it comes to that."""
    clock, opened = Clock(), []
    old, new, quick = (SlowEngine(clock, 0.0, each) for each in (0.3, 0.1, 0.05))
    before, after = Runner(old), Runner(new, lambda: opened.append(None) or quick)
    assert not opened
    for _ in range(2):
        found = measure_speedup(before, after, IMAGES, Pace(0.0, 3, 0.0, clock))
    assert (found.batches, found.single) == (pytest.approx(3), pytest.approx(6))
    assert (found.before.images_per_second, found.before.latency_ms) == (pytest.approx(1 / 0.3), pytest.approx(300))
    assert (found.after.images_per_second, found.after.latency_ms) == (pytest.approx(10), pytest.approx(50))
    assert (found.before.batch, found.after.batch, len(opened)) == (8, 8, 1)


def test_a_turn_that_is_spoilt_counts_no_more_than_another() -> None:
    clock = Clock()
    third_turns = (6, 12)  # single images, batches; every other run warms up
    old, new = SlowEngine(clock, 0.0, 0.2), SlowEngine(clock, 0.0, 0.1, third_turns)
    found = measure_speedup(Runner(old), Runner(new), IMAGES, Pace(0.0, 3, 0.0, clock))
    assert (found.single, found.batches) == (pytest.approx(2), pytest.approx(2))


def test_ratios_are_of_turns_and_not_of_all_calls() -> None:
    """What is busy in two of three turns for one, and in two others for the other, has another ratio of medians."""
    clock = Clock()
    old, new = SlowEngine(clock, 0.0, 1.0, (2, 4)), SlowEngine(clock, 0.0, 1.0, (4, 6))
    found = measure_speedup(Runner(old), Runner(new), IMAGES, Pace(0.0, 3, 0.0, clock))
    assert (found.before.latency_ms, found.after.latency_ms) == (pytest.approx(2000), pytest.approx(2000))
    assert found.single == pytest.approx(1)  # of 2, 1 and 1/2


@pytest.mark.parametrize(("each", "runs"), [(0.001, None), (1.0, 2 * 7 * (1 + 1))])
def test_large_models_are_timed_less_often(each: float, runs: int | None) -> None:
    """At the usual pace small ones take the seconds it says, large ones a call that warms up and one that counts."""
    clock = Clock()
    engines = [SlowEngine(clock, 0.0, each), SlowEngine(clock, 0.0, each / 2)]
    found = measure_speedup(*map(Runner, engines), IMAGES, replace(PACE, clock=clock))
    assert (found.single, found.batches) == (pytest.approx(2), pytest.approx(2))
    if runs is None:
        assert clock.now == pytest.approx(3, rel=0.1)
    else:
        assert [engine.runs for engine in engines] == [runs, runs]


@pytest.mark.parametrize("broken", [Runner(Broken()), Runner(SlowEngine(Clock(), 0.1, 0.1), Broken)])
def test_what_an_engine_raises_is_raised(broken: Runner) -> None:
    clock = Clock()
    with pytest.raises(ValueError, match="out of order"):
        measure_speedup(Runner(SlowEngine(clock, 0.1, 0.1)), broken, IMAGES, Pace(0.0, 3, 0.0, clock))


def test_a_cost_becomes_measurements_with_units() -> None:
    cost = MeasuredCost("model", "onnx", 0.75, 0.98, Speed(latency_ms=1.5, images_per_second=800, batch=32))
    found = {(one.title, one.value, one.unit) for one in cost.measurements()}
    assert found == {
        ("size", 0.75, "MiB"),
        ("latency_p50 (onnx, one image)", 1.5, "ms"),
        ("images_per_second (onnx, batches of 32)", 800, "images/s"),
    }
