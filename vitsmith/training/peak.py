"""How much arithmetic training is, and how much the device could do: the share of one in the other."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import flops
from vitsmith.training.gemm import measure_peaks

_SECONDS = 0.05
"""Repeats of each kernel and size: a run begins with this, and what it reaches itself counts too (`Peak`)."""


def training_flops(config: ModelConfig) -> int:
    """Model FLOPs of training on one image: a forward pass, and a backward pass of twice as much (arXiv 2204.02311 B).

    What checkpointing computes again is not counted: it is no progress.
    """
    return 3 * flops(config)


def measured_peak_flops(device: torch.device, precision: Literal["fp32", "bf16"]) -> float:
    """Operations a second of the fastest square matrix products; measured once a process.

    Other work on the device makes it too low: whoever reaches more than this has seen a higher peak.
    """
    return _measure(device.type, precision)


@cache
def _measure(kind: str, precision: Literal["fp32", "bf16"]) -> float:
    return 1e9 * measure_peaks(device=kind, seconds=_SECONDS, precisions=(precision,))[precision].gflops
