"""Weight-standardised convolution with TensorFlow's 'SAME' padding (models_resnet.py of the original)."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

Divisor = Literal["deviation", "variance"]
"""What kernels are divided by: their population deviation plus 1e-5, as `weight_standardize(..., eps=1e-5)` of the
original, or the root of their variance plus 1e-8, as arXiv 1903.10520 and timm."""


class StdConv2d(nn.Conv2d):
    """Convolution without bias whose kernels have mean 0 and deviation 1 over (input channels, height, width)."""

    def __init__(
        self, channels: int, width: int, kernel: int, stride: int = 1, *, divisor: Divisor = "deviation"
    ) -> None:
        super().__init__(channels, width, kernel, stride=stride, bias=False)
        self.divisor = divisor

    def forward(self, input: Tensor) -> Tensor:
        padded = pad_same(input, self.kernel_size[0], self.stride[0])
        return F.conv2d(padded, self.standardized(), stride=self.stride)

    def standardized(self) -> Tensor:
        """(out, in, height, width) with mean 0 and deviation 1 for each output channel, computed in float32."""
        kernel = self.weight.float()
        kernel = kernel - kernel.mean(dim=(1, 2, 3), keepdim=True)
        variance = kernel.square().mean(dim=(1, 2, 3), keepdim=True)
        deviation = variance.sqrt() + 1e-5 if self.divisor == "deviation" else (variance + 1e-8).sqrt()
        return (kernel / deviation).to(self.weight.dtype)


def pad_same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zero padding of (batch, channels, height, width) so that the output has ceil(size / stride) positions.

    When the total is odd the extra row or column goes to the bottom or right: TensorFlow's rule, not PyTorch's.
    """
    vertical, horizontal = (
        max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[-2], x.shape[-1])
    )
    if vertical == horizontal == 0:
        return x
    return F.pad(x, (horizontal // 2, horizontal - horizontal // 2, vertical // 2, vertical - vertical // 2))
