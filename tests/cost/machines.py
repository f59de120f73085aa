"""A made machine: the true time of each model, and its profile."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vitsmith.cost.probes import ShortModel, plain, probes
from vitsmith.cost.profile import EngineProfile, Profile, Timed
from vitsmith.cost.work import TERMS, work_of
from vitsmith.models.config import ModelConfig

FACTORS = {
    "call": 2e-4, "block": 1e-4, "products": 1.2e-11, "weights": 3e-10, "rows": 2e-10, "attention": 1e-11,
    "scores": 2e-9, "norms": 1e-9, "gelu_tanh": 8e-10, "turns": 3e-9, "transposes": 1e-9, "pixels": 3e-9,
    "convolutions": 1.6e-11, "root": 5e-11, "kernels": 2e-9, "maps": 2e-9, "merged": 1e-9, "gates": 1e-9,
}  # fmt: skip
MACHINE = np.array([FACTORS.get(name, 0.0) for name in TERMS])


def seconds_of(config: ModelConfig, batch: int) -> float:
    """A made machine: the form above, and an efficiency that depends on width and tokens in another way."""
    work = work_of(config, batch)
    odd = 1 + 0.1 * math.sin(1.5 * math.log(work.outer.width)) + 0.06 * math.cos(math.log(work.outer.tokens * batch))
    return float(work.counts @ MACHINE) * odd


def timed(noise: float, seed: int = 0, chosen: list[ShortModel] | None = None) -> list[Timed]:
    generator = np.random.default_rng(seed)
    return [
        Timed(
            config=one.config,
            goal=one.goal,
            batch=one.batch,
            seconds=tuple(seconds_of(one.config, one.batch) * np.exp(noise * generator.normal(size=3))),
            reference=(1.0,) * 3,
        )
        for one in (chosen or probes())
    ]


def engine(**changes: Any) -> EngineProfile:
    one = Timed(config=plain(192, 14, 4), goal="latency", batch=1, seconds=(0.01, 0.012), reference=(0.002, 0.003))
    fields: dict[str, Any] = {
        "engine": "torch", "precision": "fp32", "threads": 2, "version": "2.13.0", "made": "2026-12-01",
        "timed": (one,), "reference": (0.002,) * 6, "others": 0.0, "peak": 300_000_000,
    }  # fmt: skip
    return EngineProfile(**fields | changes)


def machine(*engines: EngineProfile) -> Profile:
    return Profile(machine="Made 1, 2 cores", instructions="ab", memory=2**32, vitsmith="0.1.0", engines=engines)
