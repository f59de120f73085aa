"""The two-layer perceptrons of transformers and mixers."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.layers.gelu import Gelu, QuickGelu, gelu_of
from vitsmith.layers.linear import Linear, widen_and_activate
from vitsmith.layers.norm import LayerNorm


class Mlp(nn.Module):
    """(..., in) -> (..., in): widen, GELU, narrow; with `norm_eps` a LayerNorm before the last layer.

    GELU comes in three forms: 'tanh' in the JAX code (`flax.linen.gelu`), 'erf' in timm and HF, 'quick' in OpenAI's
    CLIP. 'tanh' and 'erf' differ by up to 5e-4 for each activation, 'quick' by up to 0.02, enough to change answers, so
    the form is part of the configuration.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        gelu: Literal["tanh", "erf", "quick"],
        dropout: float = 0.0,
        *,
        norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.widen = Linear(width, hidden)
        self.gelu: Gelu | QuickGelu = gelu_of(gelu)
        self.norm = None if norm_eps is None else LayerNorm(hidden, eps=norm_eps)
        self.narrow = Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.dropout(widen_and_activate(x, self.widen, self.gelu))
        return self.dropout(self.narrow(x if self.norm is None else self.norm(x)))


class GatedMlp(nn.Module):
    """(..., in) -> (..., in): narrow(silu(gate) * value), arXiv 2002.05202 (SwiGLU).

    `widen` computes gate and value, in this order, in one product. With `norm_eps` a LayerNorm precedes `narrow`.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0, *, norm_eps: float | None = None) -> None:
        super().__init__()
        self.hidden = hidden
        self.widen = Linear(width, 2 * hidden)
        self.norm = None if norm_eps is None else LayerNorm(hidden, eps=norm_eps)
        self.narrow = Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        gate, value = x[..., : self.hidden], x[..., self.hidden :]  # slices, not chunks: see `rotary.turn`
        x = self.dropout(F.silu(gate) * value)
        return self.dropout(self.narrow(x if self.norm is None else self.norm(x)))
