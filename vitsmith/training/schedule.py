"""The original's learning rate: a linear warm-up, then a cosine or a straight line down."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

Decay = Literal["cosine", "linear"]

_LINEAR_END = 1e-5


def learning_rate(step: int, *, base: float, steps: int, warmup_steps: int, decay: Decay = "cosine") -> float:
    """The rate of update number `step`, counted from 0; with a warm-up the first is 0.

    Source: `create_learning_rate_schedule` in vit_jax/utils.py. Cosine ends at 0, linear at 1e-5. The arithmetic is
    float32 in the original's order, which shows near the end, where 1 + cos(...) has few digits left.
    """
    one = np.float32(1)
    progress = np.float32(step - warmup_steps) / np.float32(steps - warmup_steps)
    progress = np.clip(progress, np.float32(0), one)
    if decay == "linear":
        rate = np.float32(_LINEAR_END) + np.float32(base - _LINEAR_END) * (one - progress)
    else:
        # The cosine is computed in double precision and rounded: NumPy's own float32 cosine is off by one last digit.
        rate = np.float32(base * 0.5) * (one + np.float32(math.cos(np.float32(math.pi) * progress)))
    if warmup_steps:
        rate *= min(one, np.float32(step) / np.float32(warmup_steps))
    return float(rate)
