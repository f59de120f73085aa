"""Linear layers, with a faster kernel on a CPU where no gradients are needed.

In float32 torch (2.13) multiplies with MKL, which on AMD processors does not use AVX512. oneDNN, which torch has too,
uses it: on one core of an AMD EPYC a product of 197 x 768 by 768 x 3072 takes 3.7 ms instead of 8.3, and the GELU that
follows is computed while the result is in the registers, 0.1 ms instead of 0.6. Only the order of the sums differs:
everything is float32.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from vitsmith.layers.eager import is_eager_on_a_cpu, is_watched
from vitsmith.layers.gelu import Gelu, QuickGelu, onednn_has_bfloat16


class Linear(nn.Linear):
    """torch's linear layer: (..., in) -> (..., out)."""

    def forward(self, input: Tensor) -> Tensor:
        return _product(input, self) if _suits(input, self) else super().forward(input)


def widen_and_activate(x: Tensor, linear: nn.Linear, gelu: Gelu | QuickGelu) -> Tensor:
    """gelu(linear(x)), in one kernel where that is possible and neither module has a hook."""
    if isinstance(gelu, Gelu) and _suits(x, linear) and not is_watched(linear, gelu):
        return _product(x, linear, "tanh" if gelu.approximate == "tanh" else "none")
    activated: Tensor = gelu(linear(x))
    return activated


def _suits(x: Tensor, linear: nn.Linear) -> bool:
    """Whether oneDNN should compute `linear(x)`."""
    weight = linear.weight
    return (
        is_eager_on_a_cpu(x)
        and is_eager_on_a_cpu(weight)
        and x.dtype == weight.dtype
        and _onednn_is_faster(x.dtype)
        and x.numel() > 0
        and not (torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad))
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _onednn_is_faster(dtype: torch.dtype) -> bool:
    """Whether oneDNN is faster than MKL, measured with AVX512 only; elsewhere torch chooses."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return wide and (dtype == torch.float32 or (dtype == torch.bfloat16 and onednn_has_bfloat16()))


def _product(x: Tensor, linear: nn.Linear, gelu: Literal["", "tanh", "none"] = "") -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(
        x, linear.weight, linear.bias, "gelu" if gelu else "none", [], gelu
    )
    return result
