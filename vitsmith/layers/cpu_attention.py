"""Attention in bfloat16 on a CPU, where torch's fused kernel spends most of its time outside products.

For 16 images of 197 tokens, 3 heads of 64, on one core of an AMD EPYC with AVX512-BF16, `scaled_dot_product_attention`
takes 9 ms forward and 25 ms backward; the five products and the softmax below take 6 and 8. For 12 heads, without a
backward pass, they take 16 ms instead of 37.

B batch, N tokens, H heads, d head width
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vitsmith.layers.eager import is_eager_on_a_cpu

LONGEST = 1024
"""Most tokens: the attention weights are kept for the backward pass, and are then as large as all else together."""

SHORTEST = 64
"""Fewest tokens without a backward pass: for 16 tokens torch's kernel is faster."""


def suits(qkv: Tensor, bias: Tensor | None, dropout: float) -> bool:
    """Whether `attend` should compute this attention; `qkv` is (B, N, 3, H, d)."""
    return (
        qkv.device.type == "cpu"
        and qkv.dtype == torch.bfloat16
        and qkv.shape[1] <= LONGEST
        and (qkv.requires_grad or (qkv.shape[1] >= SHORTEST and is_eager_on_a_cpu(qkv)))
        and bias is None
        and dropout == 0.0
    )


def attend(qkv: Tensor) -> Tensor:
    """(B, N, 3, H, d) -> (B, N, H, d). Scores are rounded to bfloat16, as in the original's bfloat16 mode."""
    result: Tensor = _Attend.apply(qkv)  # type: ignore[no-untyped-call]
    return result


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, qkv: Tensor) -> Tensor:
        batch, tokens, _, heads, width = qkv.shape
        stacked = qkv.permute(2, 0, 3, 1, 4).reshape(3, batch * heads, tokens, width)
        query, key, value = stacked.unbind(0)  # each (B * H, N, d)
        weights = query.new_empty(batch * heads, tokens, tokens)
        weights.baddbmm_(query, key.transpose(1, 2), beta=0, alpha=width**-0.5)
        torch.softmax(weights, dim=-1, out=weights)
        ctx.save_for_backward(stacked, weights)
        ctx.heads = heads
        return (weights @ value).view(batch, heads, tokens, width).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        stacked, weights = ctx.saved_tensors
        query, key, value = stacked.unbind(0)
        batch, tokens, heads, width = gradient.shape
        gradient = gradient.transpose(1, 2).reshape(batch * heads, tokens, width)
        result = torch.empty_like(stacked)
        torch.bmm(weights.transpose(1, 2), gradient, out=result[2])
        scores = gradient @ value.transpose(1, 2)
        torch._softmax_backward_data(scores, weights, -1, weights.dtype, grad_input=scores)
        result[0].baddbmm_(scores, key, beta=0, alpha=width**-0.5)
        result[1].baddbmm_(scores.transpose(1, 2), query, beta=0, alpha=width**-0.5)
        return result.view(3, batch, heads, tokens, width).permute(1, 3, 0, 2, 4).contiguous()
