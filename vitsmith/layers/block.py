"""One pre-norm transformer encoder block, arXiv 2010.11929 figure 1."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.depth import StochasticDepth
from vitsmith.layers.mlp import Mlp
from vitsmith.layers.norm import LayerNorm


class Block(nn.Module):
    """x + Attention(LayerNorm(x)), then x + Mlp(LayerNorm(x)), on (batch, tokens, width)."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        *,
        head_width: int | None = None,
        gelu: Literal["tanh", "erf"],
        norm_eps: float,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(width, eps=norm_eps)
        self.attention = Attention(width, heads, attention_dropout, head_width=head_width)
        self.dropout = nn.Dropout(dropout)
        self.norm2 = LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_width, gelu, dropout)
        self.drop_branch = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor, kept: int | None = None) -> Tensor:
        """The output for all tokens, or for the first `kept` only, computed from all (for a last block)."""
        seen = self.attention(self.norm1(x), kept=kept)
        x = (x if kept is None else x[:, :kept]) + self.drop_branch(self.dropout(seen))
        return x + self.drop_branch(self.mlp(self.norm2(x)))
