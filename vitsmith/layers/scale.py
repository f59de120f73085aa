"""LayerScale, "Going deeper with Image Transformers", arXiv 2103.17239 section 2."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """Multiplies each channel by a learned factor: (..., width) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factors
