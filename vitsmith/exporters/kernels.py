"""Kernels that a module standardises at each call become fixed weights, standardised once."""

from __future__ import annotations

import copy

import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.layers.stdconv import StdConv2d, pad_same


def with_fixed_kernels(module: nn.Module) -> nn.Module:
    """A copy that computes the same with fixed kernels; the module itself when it standardises none.

    XNNPACK takes no computed kernels, float16 would standardise them in float16, and quantisation rounds weights, not
    what is computed from them.
    """
    names = [name for name, one in module.named_modules() if isinstance(one, StdConv2d)]
    if not names:
        return module
    module = copy.deepcopy(module)
    for name in names:
        before = module.get_submodule(name)
        assert isinstance(before, StdConv2d)
        module.set_submodule(name, _FixedConv2d(before))
    return module


class _FixedConv2d(nn.Conv2d):
    """A StdConv2d whose weights are its standardised kernels."""

    def __init__(self, before: StdConv2d) -> None:
        super().__init__(
            before.in_channels,
            before.out_channels,
            before.kernel_size,  # type: ignore[arg-type]
            stride=before.stride,  # type: ignore[arg-type]
            bias=False,
        )
        self.weight = nn.Parameter(before.standardized().detach(), requires_grad=False)
        self.train(before.training)

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(pad_same(input, self.kernel_size[0], self.stride[0]), self.weight, stride=self.stride)
