"""Smaller weights or faster products in torch itself, for GPUs, through torchao.

'int8-weights' keeps weights in int8, one scale for each output channel, and computes in the model's own precision:
half of bfloat16's memory and traffic, which pays off for single images. 'fp8' multiplies float8 (e4m3) by float8, with
a scale for each row of both (those of activations are found while it runs): for large batches. Compile both with
torch.compile, else the rounding costs more than it gains.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from vitsmith.errors import InputError, MissingPackageError, UnknownNameError
from vitsmith.process.quiet import quiet

SCHEMES = ("int8-weights", "fp8")
_FP8_CAPABILITY = (8, 9)
"""The first GPUs with products of float8: Ada and Hopper."""

Module = TypeVar("Module", bound=nn.Module)


def quantized_copy(model: Module, scheme: str) -> Module:
    """A copy of `model`, in eval mode and best in bfloat16, whose blocks' linear layers are quantised.

    Patch embedding, norms and heads stay as they are. It lives in memory: weights on disk stay float, and the copy is
    made when they are loaded. Raises UnknownNameError, MissingPackageError, and InputError for fp8 where no GPU
    multiplies it.
    """
    if scheme not in SCHEMES:
        raise UnknownNameError("scheme", scheme, SCHEMES)
    if scheme == "fp8":
        check_fp8(next(model.parameters()))
    with quiet():
        try:
            from torchao.quantization import (
                Float8DynamicActivationFloat8WeightConfig,
                Int8WeightOnlyConfig,
                PerRow,
                quantize_,
            )
        except ImportError:
            raise MissingPackageError("torchao", "gpu") from None
        fp8 = scheme == "fp8"
        config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()) if fp8 else Int8WeightOnlyConfig()
        copied = copy.deepcopy(model)
        quantize_(copied, config, filter_fn=_in_blocks)
    return copied


def check_fp8(weight: torch.Tensor) -> None:
    """Raises InputError unless `weight` is in bfloat16, on a GPU that multiplies float8."""
    if weight.device.type != "cuda":
        raise InputError(
            "fp8 is for an NVIDIA GPU (Ada, Hopper or later), and the model is not on one: use int8 or bf16"
        )
    if torch.cuda.get_device_capability(weight.device) < _FP8_CAPABILITY:
        name = torch.cuda.get_device_name(weight.device)
        raise InputError(f"{name} does not multiply fp8: Ada, Hopper and later GPUs do; use bf16 or int8-weights")
    if weight.dtype != torch.bfloat16:
        raise InputError("fp8 needs a model in bfloat16: convert it with .bfloat16() first")


def _in_blocks(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and "blocks." in name
