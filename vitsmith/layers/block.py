"""One pre-norm transformer encoder block, arXiv 2010.11929 figure 1."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.depth import StochasticDepth
from vitsmith.layers.mlp import Mlp


class Block(nn.Module):
    """x + Attention(LayerNorm(x)), then x + Mlp(LayerNorm(x)), on (batch, tokens, width)."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        *,
        gelu: Literal["tanh", "erf"],
        norm_eps: float,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads, attention_dropout)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_width, gelu, dropout)
        self.drop_branch = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_branch(self.dropout(self.attention(self.norm1(x))))
        return x + self.drop_branch(self.mlp(self.norm2(x)))
