"""One pre-norm transformer encoder block, arXiv 2010.11929 figure 1."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.depth import StochasticDepth
from vitsmith.layers.mlp import GatedMlp, Mlp
from vitsmith.layers.norm import norm_of
from vitsmith.layers.rotary import Turns
from vitsmith.layers.scale import LayerScale


class Block(nn.Module):
    """x + Attention(Norm(x)), then x + Mlp(Norm(x)), on (batch, tokens, width); see `norm_of` for the two norms.

    With `layer_scale` both branches are multiplied by a learned factor a channel before they are added.
    """

    def __init__(
        self,
        width: int,
        attention: Attention,
        mlp: Mlp | GatedMlp,
        *,
        norm_eps: float,
        norm: Literal["layer", "rms"] = "layer",
        layer_scale: bool = False,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.norm1 = norm_of(norm, width, eps=norm_eps)
        self.attention = attention
        self.dropout = nn.Dropout(dropout)
        self.scale1 = LayerScale(width) if layer_scale else None
        self.norm2 = norm_of(norm, width, eps=norm_eps)
        self.mlp = mlp
        self.scale2 = LayerScale(width) if layer_scale else None
        self.drop_branch = StochasticDepth(stochastic_depth)

    def forward(self, x: Tensor, kept: int | None = None, turns: Turns | None = None) -> Tensor:
        """The output for all tokens, or for the first `kept` only, computed from all (for a last block)."""
        seen = self.attention(self.norm1(x), kept=kept, turns=turns)
        return self._with_mlp(self._with_attention(x if kept is None else x[:, :kept], seen))

    def _with_attention(self, x: Tensor, seen: Tensor) -> Tensor:
        """`x` and the output of its attention, added up."""
        seen = self.dropout(seen)
        return x + self.drop_branch(seen if self.scale1 is None else self.scale1(seen))

    def _with_mlp(self, x: Tensor) -> Tensor:
        """`x` and the output of its MLP, added up."""
        y = self.mlp(self.norm2(x))
        return x + self.drop_branch(y if self.scale2 is None else self.scale2(y))
