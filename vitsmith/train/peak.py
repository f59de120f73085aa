"""How much arithmetic training is, and how much the device could do: the share of one in the other."""

from __future__ import annotations

import time
from functools import cache
from typing import Literal

import torch

from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import flops

_SIDE = {"cpu": 1024, "cuda": 8192}  # 2 * 1024^3 operations are 15 ms at 150 GFLOP/s; a GPU needs more to be filled
_REPEATS = 5
_SECONDS = 0.3


def training_flops(config: ModelConfig) -> int:
    """Model FLOPs of training on one image: a forward pass, and a backward pass of twice as much (arXiv 2204.02311 B).

    What checkpointing computes again is not counted: it is no progress.
    """
    return 3 * flops(config)


def measured_peak_flops(device: torch.device, precision: Literal["fp32", "bf16"]) -> float:
    """Operations a second of the fastest of a few square matrix products; measured once a process."""
    return _measure(device.type, device.index, precision)


@cache
def _measure(kind: str, index: int | None, precision: str) -> float:
    device = torch.device(kind, index) if index is not None else torch.device(kind)
    side = _SIDE.get(kind, 2048)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    out = torch.mm(a, b)  # starts threads and loads the kernel
    best = float("inf")
    began = time.perf_counter()
    for _ in range(_REPEATS):
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, b, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - started)
        if time.perf_counter() - began > _SECONDS:
            break
    return 2 * side**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
