"""Speeds that are known beforehand, in the place of a race."""

from __future__ import annotations

import dataclasses

from vitsmith.evaluation.speed import Speed, Speedup

FAST = Speedup(Speed(20.0, 50.0, 8), Speed(10.0, 100.0, 8), 2.0, 2.0)


def slow(batch: float) -> Speedup:
    return dataclasses.replace(FAST, batches=batch)
