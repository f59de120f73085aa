from __future__ import annotations

import numpy as np
import pytest

from vitsmith.evaluate import speed
from vitsmith.evaluate.speed import Cost, Repetitions, Speed, measure_speed


class Clock:
    """Time that passes only when an engine says so."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class SlowEngine:
    """Takes `base` seconds and `each` for an image, every fifth time a whole second more."""

    precision = "float32"

    def __init__(self, name: str, clock: Clock, log: list[tuple[str, int]], base: float, each: float) -> None:
        self.name, self._clock, self._log, self._base, self._each, self._runs = name, clock, log, base, each, 0

    def run(self, images: np.ndarray) -> np.ndarray:
        self._runs += 1
        self._log.append((self.name, len(images)))
        self._clock.now += self._base + self._each * len(images) + (self._runs % 5 == 0)
        return images


def test_medians_of_engines_that_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, log = Clock(), []
    monkeypatch.setattr(speed, "time", clock)
    engines = [SlowEngine("a", clock, log, 0.010, 0.002), SlowEngine("b", clock, log, 0.001, 0.004)]
    first, second = measure_speed(engines, np.zeros((8, 3, 2, 2), np.float32), Repetitions(3, 4, 2, 1))
    assert (first.latency_ms, first.batch) == (pytest.approx(12), 8)
    assert first.images_per_second == pytest.approx(8 / (0.010 + 8 * 0.002))
    assert second.latency_ms == pytest.approx(5)
    assert second.images_per_second == pytest.approx(8 / (0.001 + 8 * 0.004))
    turn = [1] * (1 + 4) + [8] * (1 + 2)  # a warm-up before each kind
    assert log == [(name, batch) for _ in range(3) for name in "ab" for batch in turn]


def test_a_cost_becomes_measurements_with_units() -> None:
    cost = Cost("model", "onnx", 0.75, 0.98, Speed(latency_ms=1.5, images_per_second=800, batch=32))
    found = {(one.name, one.value, one.unit) for one in cost.measurements()}
    assert found == {
        ("size", 0.75, "MiB"),
        ("latency_p50 (onnx, one image)", 1.5, "ms"),
        ("images_per_second (onnx, batches of 32)", 800, "images/s"),
    }
