"""When a layer may look at the values it is given, or take a kernel that this processor has."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def is_eager_on_a_cpu(x: Tensor) -> bool:
    """Whether `x` is a plain array on a CPU, and nobody compiles, exports, maps or counts what is done with it."""
    return (
        x.device.type == "cpu"
        and type(x) in (Tensor, nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch._C._is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0  # fake tensors, FlopCounterMode
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)  # vmap, torch.func.grad
    )


def is_watched(*modules: nn.Module) -> bool:
    """Whether hooks wait for the output of one of `modules` or of a module within: it must be what it is elsewhere."""
    return any(part._forward_hooks for module in modules for part in module.modules())
