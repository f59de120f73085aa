"""The arithmetic of training, and the device's highest rate, to tell which share of it is reached."""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch

from vitsmith.evaluation.torch_peak_rates import measure_peaks
from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import flops

_SECONDS = 0.05
"""Seconds of repeats for each kernel and size: short, because every run begins with it and raises the peak later."""


def training_flops(config: ModelConfig) -> int:
    """Model FLOPs of training on one image: a forward pass, and a backward pass of twice as much (arXiv 2204.02311 B).

    What checkpointing computes again is not counted.
    """
    return 3 * flops(config)


def measured_peak_flops(device: torch.device, precision: Literal["fp32", "bf16"]) -> float:
    """Operations a second of the fastest square matrix products; measured once a process.

    Other work on the device makes it too low: a run that reaches more should count that as the peak.
    """
    return _measure(device.type, precision)


@cache
def _measure(kind: str, precision: Literal["fp32", "bf16"]) -> float:
    return 1e9 * measure_peaks(device=kind, seconds=_SECONDS, precisions=(precision,))[precision].gflops
