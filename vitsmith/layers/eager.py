"""Decide when a layer may read the values of its input, or use a kernel of this processor."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_eager_on_a_cpu(x: Tensor) -> bool:
    """Whether `x` is a plain array on a CPU, outside compiling, exporting, mapping and counting of operations."""
    return (
        x.device.type == "cpu"
        and type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0  # fake tensors, FlopCounterMode
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)  # vmap, torch.func.grad
    )


def is_watched(*modules: nn.Module) -> bool:
    """Whether a hook reads the output of one of `modules` or of a module inside: then it must be computed in full."""
    return any(part._forward_hooks for module in modules for part in module.modules())
