"""How an engine runs, and the precisions there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Goal = Literal["throughput", "latency"]

PRECISIONS = ("auto", "fp32", "fp16", "bf16", "int8", "int8-weights", "fp8")
GPU_PRECISIONS = ("int8-weights", "fp8")
"""Precisions of torch weights on a GPU, through torchao: see `engines/torch/low_precision.py`."""


@dataclass(frozen=True)
class Settings:
    """How an engine runs."""

    threads: int | None = None
    """Processor cores; None: all that this process may use."""
    precision: str = "fp32"
    goal: Goal = "throughput"
    measure: bool = False
    """Whether to measure for the best plan; else a remembered one or the usual one is taken."""


USUAL = Settings()
