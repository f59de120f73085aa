"""Multi-head self-attention, arXiv 1706.03762 section 3.2.2.

B batch, N tokens, D width, H heads, d head width, D / H unless heads were pruned
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.layers import cpu_attention
from vitsmith.layers.linear import Linear
from vitsmith.layers.norm import LayerNorm
from vitsmith.layers.rotary import Turns, turn


class Attention(nn.Module):
    """Self-attention over (B, N, D) with one fused projection for query, key and value.

    `explicit=False` (the default) uses `scaled_dot_product_attention`, whose fused kernels never form the weights.
    `explicit=True` forms them, slower and with O(N^2) memory, and passes them through the module `weights`,
    shape (B, H, N, N), where a hook or `features(images, intermediates=["blocks.0.attention.weights"])` sees them.

    `head_norm_eps` adds a LayerNorm over each head's queries and one over its keys; `out_norm_eps` adds one over all
    heads before the output projection. With `causal` no token sees a later one; such attention takes no `bias`.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float = 0.0,
        *,
        head_width: int | None = None,
        bias: bool = True,
        causal: bool = False,
        head_norm_eps: float | None = None,
        out_norm_eps: float | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        head_width = head_width or width // heads
        inner = heads * head_width
        self.dropout = dropout
        self.causal = causal
        self.explicit = False
        self.qkv = Linear(width, 3 * inner, bias=bias)
        self.query_norm = None if head_norm_eps is None else LayerNorm(head_width, eps=head_norm_eps)
        self.key_norm = None if head_norm_eps is None else LayerNorm(head_width, eps=head_norm_eps)
        self.weights = nn.Identity()
        self.norm = None if out_norm_eps is None else LayerNorm(inner, eps=out_norm_eps)
        self.out = Linear(inner, width)

    def forward(
        self,
        x: Tensor,
        bias: Tensor | None = None,
        *,
        kept: int | None = None,
        keys: list[Tensor] | None = None,
        turns: Turns | None = None,
    ) -> Tensor:
        """(B, N, D) -> (B, N, D), or (B, kept, D): the output of the first `kept` tokens, which attend to all.

        `bias` is added to the scores and broadcasts to (B, H, N, N), or (B, H, kept, N). The mean of the keys of all
        heads, (B, N, d), is appended to the list `keys` if given. `turns` turns queries and keys (rotary positions).
        """
        batch, tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, self.qkv.out_features // (3 * self.heads))
        if keys is not None:
            keys.append(qkv[:, :, 1].mean(dim=2))
        dropout = self.dropout if self.training else 0.0
        plain = kept is None and turns is None and self.query_norm is None and not (self.explicit or self.causal)
        if plain and cpu_attention.suits(qkv, bias, dropout):
            return self._project(cpu_attention.attend(qkv).flatten(2))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, N, d)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        if turns is not None:
            query, key = turn(query, turns), turn(key, turns)
        if kept is not None:
            query = query[:, :, :kept]
        if self.explicit:
            x = self._attend_explicitly(query, key, value, bias, dropout)
        else:
            x = F.scaled_dot_product_attention(query, key, value, bias, dropout, is_causal=self.causal)
        return self._project(x.transpose(1, 2).flatten(2))

    def _attend_explicitly(
        self, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float
    ) -> Tensor:
        scores = query @ key.transpose(-2, -1) * query.shape[-1] ** -0.5
        if bias is not None:
            scores = scores + bias
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        weights: Tensor = self.weights(torch.softmax(scores, dim=-1))
        return F.dropout(weights, dropout) @ value

    def _project(self, x: Tensor) -> Tensor:
        """The values of all heads, (B, N, H * d) -> (B, N, D)."""
        return self.out(x if self.norm is None else self.norm(x))
