"""Pooling by attention with a learned probe, "Scaling Vision Transformers", arXiv 2106.04560 section 3.4.

B batch, N tokens, D width, H heads, d head width. Source: `MAPHead` in models/vit.py of big_vision.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.layers.linear import Linear
from vitsmith.layers.mlp import Mlp
from vitsmith.layers.norm import LayerNorm


class AttentionPool(nn.Module):
    """(B, N, D) -> (B, D): what the probe attends to, x, then x + Mlp(LayerNorm(x))."""

    def __init__(
        self, width: int, heads: int, mlp_width: int, *, gelu: Literal["tanh", "erf", "quick"], norm_eps: float
    ) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(torch.zeros(1, 1, width))
        self.query = Linear(width, width)
        self.key_value = Linear(width, 2 * width)
        self.out = Linear(width, width)
        self.norm = LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, mlp_width, gelu)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """`sizes` (B, N) are the numbers of patches of merged tokens: one of size s counts as s tokens would."""
        batch, tokens, width = x.shape
        query = self.query(self.probe).view(1, 1, self.heads, -1).transpose(1, 2)  # (1, H, 1, d)
        key, value = self.key_value(x).view(batch, tokens, 2, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        bias = None if sizes is None else sizes.log().to(x.dtype)[:, None, None]  # (B, 1, 1, N)
        seen = F.scaled_dot_product_attention(
            query.expand(batch, -1, -1, -1), key, value, attn_mask=bias
        )  # (B, H, 1, d)
        seen = self.out(seen.reshape(batch, width))
        pooled: Tensor = seen + self.mlp(self.norm(seen))
        return pooled
