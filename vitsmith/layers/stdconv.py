"""Weight-standardised convolution with TensorFlow's 'SAME' padding (models_resnet.py of the original)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class StdConv2d(nn.Conv2d):
    """Convolution without bias whose kernels have mean 0 and deviation 1 over (input channels, height, width).

    The divisor is the population deviation plus 1e-5, as in `weight_standardize(..., eps=1e-5)`, not the variance + eps
    of arXiv 1903.10520.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, width, kernel, stride=stride, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        padded = pad_same(input, self.kernel_size[0], self.stride[0])
        return F.conv2d(padded, standardize(self.weight), stride=self.stride)


def standardize(weight: Tensor) -> Tensor:
    """(out, in, height, width) with mean 0 and deviation 1 for each output channel, computed in float32."""
    kernel = weight.float()
    kernel = kernel - kernel.mean(dim=(1, 2, 3), keepdim=True)
    deviation = kernel.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return (kernel / (deviation + 1e-5)).to(weight.dtype)


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
