"""The ResNet front of hybrids: BiT's ResNet v1.5 with GroupNorm and weight standardisation, arXiv 1912.11370.

B batch, C channels, h, w positions. Source: models_resnet.py and models_vit.py of the original.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.layers.stdconv import StdConv2d, pad_same
from vitsmith.models.config import GROUPS, ResNetConfig


class ResNet(nn.Module):
    """(B, 3, height, width) -> (B, C, h, w): root block, then the stages."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        width = config.stem_width
        self.root = StdConv2d(3, width, kernel=7, stride=2, divisor=config.divisor)
        self.root_norm = group_norm(width, config)
        self.stages = nn.ModuleList()
        channels = width
        for index, units in enumerate(config.stages):
            stage_width = width * 2**index
            self.stages.append(Stage(channels, stage_width, units, 1 if index == 0 else 2, config))
            channels = 4 * stage_width

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu(self.root_norm(self.root(images)))  # (B, 64, height/2, width/2)
        # The original pads the pool with -inf; after a ReLU zeros give the same, and can be exported.
        x = F.max_pool2d(pad_same(x, 3, 2), kernel_size=3, stride=2)
        for stage in self.stages:
            x = stage(x)
        return x


class Stage(nn.Sequential):
    """Bottleneck units in a row; the first one changes width and resolution."""

    def __init__(self, channels: int, width: int, units: int, stride: int, config: ResNetConfig) -> None:
        first = Bottleneck(channels, width, stride, config)
        super().__init__(first, *(Bottleneck(4 * width, width, 1, config) for _ in range(units - 1)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which strides), 1x1 to four times the width, and a projected shortcut where shapes differ."""

    def __init__(self, channels: int, width: int, stride: int, config: ResNetConfig) -> None:
        super().__init__()
        divisor = config.divisor
        self.projection: nn.Module | None = None
        if channels != 4 * width or stride != 1:
            self.projection = StdConv2d(channels, 4 * width, kernel=1, stride=stride, divisor=divisor)
            self.projection_norm = group_norm(4 * width, config)
        self.conv1 = StdConv2d(channels, width, kernel=1, divisor=divisor)
        self.norm1 = group_norm(width, config)
        self.conv2 = StdConv2d(width, width, kernel=3, stride=stride, divisor=divisor)
        self.norm2 = group_norm(width, config)
        self.conv3 = StdConv2d(width, 4 * width, kernel=1, divisor=divisor)
        self.norm3 = group_norm(4 * width, config)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.projection is None else self.projection_norm(self.projection(x))
        y = F.relu(self.norm1(self.conv1(x)))
        y = F.relu(self.norm2(self.conv2(y)))
        return F.relu(shortcut + self.norm3(self.conv3(y)))


def group_norm(channels: int, config: ResNetConfig) -> nn.GroupNorm:
    """32 groups, flax's default."""
    return nn.GroupNorm(GROUPS, channels, eps=config.norm_eps)
