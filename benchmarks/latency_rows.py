"""Rows of `latency_prediction.py`: measured times beside predicted ones, and beside those from operations alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.cost.engine_times import EngineTimes
from vitsmith.cost.least_squares import nonnegative_least_squares
from vitsmith.cost.predict import cost_of
from vitsmith.cost.profile import Profile
from vitsmith.models.configure import parse_config
from vitsmith.models.cost import flops


@dataclass(frozen=True)
class Row:
    """A model on an engine, timed twice; seconds of a call."""

    kind: str
    title: str
    config: dict[str, Any]
    batch: int
    engine: str
    precision: str
    first: float
    second: float

    @property
    def seconds(self) -> float:
        return math.sqrt(self.first * self.second)

    @property
    def retest(self) -> float:
        return abs(math.log(self.second / self.first))

    @property
    def flops(self) -> int:
        return self.batch * flops(parse_config(self.config))

    @property
    def way(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Judged:
    """A row beside what was predicted."""

    row: Row
    predicted: float
    low: float
    high: float

    @property
    def error(self) -> float:
        """Of the prediction, as a share of the measured time."""
        return self.predicted / self.row.seconds - 1

    @property
    def inside(self) -> bool:
        return self.low <= self.row.seconds <= self.high


def judge(rows: Sequence[Row], profile: Profile) -> tuple[list[Judged], list[str]]:
    """Rows beside predictions, and what was refused."""
    times = {(one.engine, one.precision): (one, EngineTimes(one)) for one in profile.engines}
    found, refused = [], []
    for row in rows:
        if (row.engine, row.precision) not in times:
            refused.append(f"{row.title}, {row.way}: the profile has no such engine")
            continue
        one, known = times[row.engine, row.precision]
        try:
            cost = cost_of(parse_config(row.config), one, batch=row.batch, times=known)
        except Exception as error:  # a refusal is told, and counted
            refused.append(f"{row.title}, {row.way}: {error}")
            continue
        found.append(Judged(row, cost.latency, cost.low, cost.high))
    return found, refused


def from_flops(calls: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """(a, b) of seconds = a + b * FLOPs with the least squared relative error over (FLOPs, seconds)."""
    rows = np.array([[1 / seconds, work / seconds] for work, seconds in calls])
    a, b = nonnegative_least_squares(rows, np.ones(len(rows)))
    return float(a), float(b)


def flops_errors(judged: Sequence[Judged], profile: Profile) -> tuple[list[float], list[float]]:
    """Errors of times from operations alone, fitted to the calibration's short models, and to the rows themselves."""
    on_probes, on_rows = [], []
    for one in profile.engines:
        own = [each.row for each in judged if each.row.way == f"{one.engine} {one.precision}"]
        if len(own) < 3:
            continue
        probes = [(each.batch * flops(each.config), each.median(one.usual)) for each in one.timed]
        for errors, (a, b) in (
            (on_probes, from_flops(probes)),
            (on_rows, from_flops([(row.flops, row.seconds) for row in own])),
        ):
            errors += [abs((a + b * row.flops) / row.seconds - 1) for row in own]
    return on_probes, on_rows
