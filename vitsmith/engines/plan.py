"""Plans: how an engine spreads its work over the processor. A short race finds the fastest of several."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

GOAL_BATCH: dict[str, int] = {"throughput": 8, "latency": 1}
"""Images in a batch of a race, by goal."""

RACE_SECONDS = 2.0
TURNS = 6


@dataclass(frozen=True)
class Plan:
    """How a program is run."""

    chunk: int
    """Images that one request computes: programs are compiled for a fixed number of them."""
    streams: int
    """Requests that are computed at once."""
    threads: int
    """Processor cores for all streams together."""
    spinning: bool = False
    """Whether idle threads keep the processor busy while they wait for work (onnxruntime)."""

    def to_dict(self) -> dict[str, Any]:
        """The plan as data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Any) -> Self | None:
        """The plan that `to_dict` gave as data; None for anything else."""
        if not isinstance(fields, Mapping) or set(fields) != {"chunk", "streams", "threads", "spinning"}:
            return None
        numbers = [fields[name] for name in ("chunk", "streams", "threads")]
        if any(type(number) is not int or not 1 <= number <= 4096 for number in numbers):
            return None
        return cls(numbers[0], numbers[1], numbers[2], bool(fields["spinning"]))

    def __str__(self) -> str:
        return f"{self.streams} x {self.chunk} images, {self.threads} threads"


def default_plan(goal: str, threads: int, *, batch: int | None = None) -> Plan:
    """The plan that is the best most often; `batch` is the fixed batch of a program."""
    return plans(goal, threads, batch=batch)[0]


def plans(goal: str, threads: int, *, batch: int | None = None) -> list[Plan]:
    """Plans worth comparing for programs of fixed shapes, the most promising first.

    On two cores of an AMD EPYC an int8 Ti/16 gave 412 images/s as 2 streams of 4 images, 389 as 2 of 1, 326 as one of
    8, and 303 as one of 1 (openvino 2026.4).
    """
    if goal == "latency":
        alone = [Plan(batch or 1, 1, threads)]
        return alone if threads < 4 else [*alone, Plan(batch or 1, 1, threads // 2)]
    if batch is not None:
        shapes = [(batch, threads), (batch, 1)]
    else:
        shapes = [(4, threads), (8, 1), (1, threads)]
        if threads >= 8:
            shapes.append((8, threads // 4))
    return [Plan(chunk, streams, threads) for chunk, streams in dict.fromkeys(shapes)]


def race(
    runs: Sequence[Callable[[], object]],
    images: int,
    *,
    seconds: float = RACE_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Images a second of each of `runs`, which compute `images` images each: the best of several turns.

    They take turns, so that a busy moment does not favour one; no turn begins after `seconds`.
    """
    best = [float("inf")] * len(runs)
    began = clock()
    for _ in range(TURNS):
        for index, run in enumerate(runs):
            started = clock()
            run()
            best[index] = min(best[index], clock() - started)
        if clock() - began > seconds:
            break
    return [images / max(one, 1e-9) for one in best]
