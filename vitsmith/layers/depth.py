"""Stochastic depth, arXiv 1603.09382: whole residual branches are dropped, sample by sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, zeroes a sample's branch with probability `rate` and scales the others by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return branch
        keep = torch.empty((branch.shape[0],) + (1,) * (branch.ndim - 1), dtype=branch.dtype, device=branch.device)
        return branch * keep.bernoulli_(1.0 - self.rate) / (1.0 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def depth_rates(last: float, depth: int) -> list[float]:
    """Rates growing linearly from 0 at the first block to `last` at the last one (section 4 of the paper)."""
    return [last * index / max(depth - 1, 1) for index in range(depth)]
