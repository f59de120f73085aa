"""Layers as programs compute them: what follows from the weights alone is computed once, and nothing is thrown away.

B batch, N tokens, D width, H heads, d head width
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from vitsmith.layers.attention import Attention
from vitsmith.layers.attention_pool import AttentionPool
from vitsmith.layers.merging import MergingBlock
from vitsmith.layers.rotary import Turns, turn
from vitsmith.layers.stdconv import StdConv2d, pad_same


def with_folded_layers(module: nn.Module) -> nn.Module:
    """A copy that computes the same with fewer operations; weights that stay as they are are shared.

    Only rounding differs. Attention with a mask, with norms of its own or in blocks that merge tokens stays as it is.
    """
    if isinstance(module, MergingBlock):
        return module
    if isinstance(module, AttentionPool):
        return _AttentionPool(module)
    if isinstance(module, StdConv2d):
        return _Convolution(module)
    if isinstance(module, Attention):
        normed = module.query_norm is not None or module.norm is not None
        return module if normed or module.causal or module.explicit else _Attention(module)
    folded = copy.copy(module)
    folded._modules = {
        name: None if child is None else with_folded_layers(child) for name, child in module._modules.items()
    }
    return folded


class _Attention(nn.Module):
    """Attention with three products in place of one, so that runtimes need not move queries, keys and values apart.

    The factor d^-0.5 of the scores is in the weights of the queries, which are computed for the tokens that are kept.
    """

    def __init__(self, before: Attention) -> None:
        super().__init__()
        self.heads = before.heads
        weights = before.qkv.weight.detach().chunk(3)
        biases = (None,) * 3 if before.qkv.bias is None else before.qkv.bias.detach().chunk(3)
        scale = (len(weights[0]) // self.heads) ** -0.5
        self.query = _linear(weights[0] * scale, None if biases[0] is None else biases[0] * scale)
        self.key = _linear(weights[1], biases[1])
        self.value = _linear(weights[2], biases[2])
        self.out = before.out

    def forward(
        self, x: Tensor, bias: Tensor | None = None, *, kept: int | None = None, turns: Turns | None = None
    ) -> Tensor:
        query, key, value = self._heads(self.query(x[:, :kept])), self._heads(self.key(x)), self._heads(self.value(x))
        if turns is not None:
            query, key = turn(query, Turns(*(table[:kept] for table in turns))), turn(key, turns)
        scores = query @ key.transpose(-2, -1)
        if bias is not None:
            scores = scores + bias
        seen = torch.softmax(scores, dim=-1) @ value  # (B, H, N or kept, d)
        projected: Tensor = self.out(seen.transpose(1, 2).flatten(2))
        return projected

    def _heads(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, H, N, d)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)


class _AttentionPool(nn.Module):
    """Attention pooling without keys and values of all tokens.

    The probe's query is a constant q, so the score of token x in a head, q . (K x + k), is (q K) . x and a constant
    that softmax does not see. Weights add up to 1, so their sum of the values V x + v is V (sum of weighted x) + v.
    """

    def __init__(self, before: AttentionPool) -> None:
        super().__init__()
        self.heads = before.heads
        with torch.no_grad():
            query = before.query(before.probe).view(self.heads, -1)  # (H, d)
            key, value = before.key_value.weight.view(2, self.heads, query.shape[1], -1)  # each (H, d, D)
            scores = torch.einsum("hd,hdw->hw", query * query.shape[1] ** -0.5, key)
            self.scores = _linear(scores, None)
            self.values = nn.Parameter(value.transpose(1, 2).contiguous(), requires_grad=False)  # (H, D, d)
            self.value_bias = nn.Parameter(before.key_value.bias.chunk(2)[1].clone(), requires_grad=False)
        self.out, self.norm, self.mlp = before.out, before.norm, before.mlp

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        scores = self.scores(x).transpose(1, 2)  # (B, H, N)
        if sizes is not None:
            scores = scores + sizes.log().to(x.dtype)[:, None]
        mixed = torch.softmax(scores, dim=-1) @ x  # (B, H, D)
        seen = (mixed[:, :, None] @ self.values).flatten(1)  # (B, D)
        seen = self.out(seen + self.value_bias)
        pooled: Tensor = seen + self.mlp(self.norm(seen))
        return pooled


class _Convolution(nn.Module):
    """A convolution whose kernels are standardised already: otherwise programs would do it when they are opened."""

    def __init__(self, before: StdConv2d) -> None:
        super().__init__()
        self.size, self.stride = before.kernel_size[0], before.stride[0]
        self.weight = nn.Parameter(before.standardized().detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv2d(pad_same(x, self.size, self.stride), self.weight, stride=self.stride)


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias, requires_grad=False)
    return linear
