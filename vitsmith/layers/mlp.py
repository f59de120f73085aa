"""The two-layer perceptron of transformers and mixers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vitsmith.layers.gelu import Gelu
from vitsmith.layers.linear import Linear, widen_and_activate


class Mlp(nn.Module):
    """(..., in) -> (..., in): widen, GELU, narrow.

    GELU comes in two forms: 'tanh' in the JAX code (`flax.linen.gelu`), 'erf' in timm and HF. They differ by up
    to 5e-4 for each activation, enough to change answers, so the form is part of the configuration.
    """

    def __init__(self, width: int, hidden: int, gelu: Literal["tanh", "erf"], dropout: float = 0.0) -> None:
        super().__init__()
        self.widen = Linear(width, hidden)
        self.gelu = Gelu(gelu)
        self.narrow = Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(widen_and_activate(x, self.widen, self.gelu))
        return self.dropout(self.narrow(x))
