"""Runs a model in float32 or bfloat16 while its weights stay float32.

Casting each weight once an update and computing everything in bfloat16 is faster than `torch.autocast`, which casts
activations back and forth before each operation (benchmarks/train_step.py). Layer norms, softmax and sums still add up
in float32 inside their kernels. Gradients go through the casts: they are added up in float32, in the weights' `.grad`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

Precision = Literal["fp32", "bf16"]


@contextmanager
def computing_in(
    model: nn.Module, precision: Precision, *, call: Callable[..., Any] | None = None
) -> Iterator[Callable[..., Any]]:
    """Within the context `model` computes in `precision`; gives the function to call in place of it.

        with computing_in(model, "bf16") as forward:
            for images, labels in slices:
                F.cross_entropy(forward(images), labels).backward()

    `forward(images)` returns float32 logits (in whatever structure the model returns), whose backward pass adds to
    the float32 `.grad` of the model's parameters. It must run within the context too: checkpointed activations are
    computed again then. All slices share one cast of the weights. `call` is a wrapper of `model`
    to call in its place, such as DistributedDataParallel or a compiled model.

    With 'fp32' nothing is cast. Models sharded by FSDP2 have its MixedPrecisionPolicy instead. Use one context at a
    time on a model; the optimizer, clipping and saving belong outside, where `model.parameters()` are the weights.
    """
    inner = model if call is None else call
    if precision == "fp32":
        yield inner
        return

    def forward(*inputs: Any, **options: Any) -> Any:
        outputs = inner(*tree_map_only(Tensor, _to_bfloat16, inputs), **options)
        return tree_map_only(Tensor, _to_float32, outputs)

    with _cast_parameters(model):
        yield forward


def _to_bfloat16(x: Tensor) -> Tensor:
    return x.bfloat16() if x.is_floating_point() else x


def _to_float32(x: Tensor) -> Tensor:
    return x.float() if x.is_floating_point() else x


@contextmanager
def _cast_parameters(model: nn.Module) -> Iterator[None]:
    """Puts a bfloat16 cast in the place of each parameter. Shared parameters are cast once.

    As `torch.func.functional_call` does for one forward pass; here it must last until the backward pass is over.
    """
    casts: dict[nn.Parameter, Tensor] = {}
    replaced: list[tuple[dict[str, Any], str, nn.Parameter]] = []
    try:
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is None or not parameter.is_floating_point():
                    continue
                if parameter not in casts:
                    casts[parameter] = parameter.to(torch.bfloat16)
                replaced.append((module._parameters, name, parameter))
                module._parameters[name] = casts[parameter]  # type: ignore[assignment]
        yield
    finally:
        for parameters, name, parameter in replaced:
            parameters[name] = parameter
