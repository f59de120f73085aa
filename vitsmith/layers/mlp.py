"""The two-layer perceptron of transformers and mixers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vitsmith.layers.gelu import Gelu


class Mlp(nn.Module):
    """(..., in) -> (..., in): widen, GELU, narrow.

    GELU comes in two forms: 'tanh' in the JAX code (`flax.linen.gelu`), 'erf' in timm and HF. They differ by up
    to 5e-4 for each activation, enough to change answers, so the form is part of the configuration.
    """

    def __init__(self, width: int, hidden: int, gelu: Literal["tanh", "erf"], dropout: float = 0.0) -> None:
        super().__init__()
        self.widen = nn.Linear(width, hidden)
        self.gelu = Gelu(gelu)
        self.narrow = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(self.gelu(self.widen(x)))
        return self.dropout(self.narrow(x))
