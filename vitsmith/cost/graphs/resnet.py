"""The ResNet of hybrids as the exporter writes it: BiT's, with GroupNorm and weight standardisation, arXiv 1912.11370.

B batch, C channels, h, w positions
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.models.config import GROUPS, ResNetConfig

Size = tuple[int, int]


@dataclass(frozen=True)
class Maps:
    """Feature maps (B, channels, *size)."""

    value: Value
    channels: int
    size: Size


def resnet(g: Graph, config: ResNetConfig, images: Value, size: Size) -> Maps:
    """(B, 3, height, width) -> (B, C, h, w): root block, then the stages."""
    width = config.stem_width
    x = _convolution(g, config, "resnet.root", Maps(images, 3, size), width, kernel=7, stride=2)
    x = _relu(g, _group_norm(g, config, "resnet.root_norm", x))
    x = _max_pool(g, x)
    for index, units in enumerate(config.stages):
        for unit in range(units):
            stride = 2 if index and not unit else 1
            x = _bottleneck(g, config, f"resnet.stages.{index}.{unit}", x, width * 2**index, stride)
    return x


def _bottleneck(g: Graph, config: ResNetConfig, name: str, x: Maps, width: int, stride: int) -> Maps:
    """1x1, 3x3 (which strides), 1x1 to four times the width, and a projected shortcut where shapes differ."""
    shortcut = x
    if x.channels != 4 * width or stride != 1:
        shortcut = _convolution(g, config, f"{name}.projection", x, 4 * width, stride=stride)
        shortcut = _group_norm(g, config, f"{name}.projection_norm", shortcut)
    y = _convolution(g, config, f"{name}.conv1", x, width)
    y = _relu(g, _group_norm(g, config, f"{name}.norm1", y))
    y = _convolution(g, config, f"{name}.conv2", y, width, kernel=3, stride=stride)
    y = _relu(g, _group_norm(g, config, f"{name}.norm2", y))
    y = _convolution(g, config, f"{name}.conv3", y, 4 * width)
    y = _group_norm(g, config, f"{name}.norm3", y)
    return _relu(g, Maps(g.add(shortcut.value, y.value), y.channels, y.size))


def _convolution(
    g: Graph, config: ResNetConfig, name: str, x: Maps, outputs: int, *, kernel: int = 1, stride: int = 1
) -> Maps:
    """A convolution with a standardised kernel, whose padding is its own."""
    weight = f"{name}.weight"
    value = g.weight(
        weight, (outputs, x.channels, kernel, kernel), lambda state: standardized(state[weight], config.divisor)
    )
    y = g.node(
        "Conv", x.value, value, auto_pad="NOTSET", dilations=(1, 1), group=1, kernel_shape=(kernel, kernel),
        pads=_same(x.size, kernel, stride), strides=(stride, stride),
    )  # fmt: skip
    return Maps(y, outputs, _strided(x.size, stride))


def standardized(kernel: Array, divisor: str) -> Array:
    """(out, in, height, width) with mean 0 and deviation 1 for each output channel, as `layers/stdconv.py`."""
    kernel = kernel - kernel.mean((1, 2, 3), keepdims=True)
    variance = np.square(kernel).mean((1, 2, 3), keepdims=True)
    deviation: Array = np.sqrt(variance) + 1e-5 if divisor == "deviation" else np.sqrt(variance + 1e-8)
    return kernel / deviation


def _group_norm(g: Graph, config: ResNetConfig, name: str, x: Maps) -> Maps:
    """GroupNorm as an InstanceNormalization of groups, then scales and biases of channels."""
    groups = g.node("Reshape", x.value, g.ints(0, GROUPS, -1), allowzero=0)
    ones, zeros = g.constant(np.ones(GROUPS, np.float32)), g.constant(np.zeros(GROUPS, np.float32))
    normed = g.node("InstanceNormalization", groups, ones, zeros, epsilon=float(config.norm_eps))
    y = g.shaped(
        g.node("Reshape", normed, g.node("Shape", x.value, start=0), allowzero=0), "batch", x.channels, *x.size
    )
    shape = (x.channels, 1, 1)
    scales = g.weight(f"{name}.weight", shape, lambda state: state[f"{name}.weight"].reshape(shape), centre=1.0)
    biases = g.weight(f"{name}.bias", shape, lambda state: state[f"{name}.bias"].reshape(shape))
    return Maps(g.add(g.mul(y, scales), biases), x.channels, x.size)


def _max_pool(g: Graph, x: Maps) -> Maps:
    """The largest of 3x3, at every second position."""
    top, left, bottom, right = _same(x.size, 3, 2)
    padded = g.node("Pad", x.value, g.ints(0, 0, top, left, 0, 0, bottom, right), mode="constant")
    pooled = g.node(
        "MaxPool", padded, auto_pad="NOTSET", ceil_mode=0, dilations=(1, 1), kernel_shape=(3, 3),
        pads=(0, 0, 0, 0), storage_order=0, strides=(2, 2),
    )  # fmt: skip
    return Maps(pooled, x.channels, _strided(x.size, 2))


def _relu(g: Graph, x: Maps) -> Maps:
    return Maps(g.node("Relu", x.value), x.channels, x.size)


def _strided(size: Size, stride: int) -> Size:
    return -(-size[0] // stride), -(-size[1] // stride)


def _same(size: Size, kernel: int, stride: int) -> tuple[int, int, int, int]:
    """TensorFlow's 'SAME' padding: top, left, bottom, right."""
    vertical, horizontal = (max((-(-one // stride) - 1) * stride + kernel - one, 0) for one in size)
    return vertical // 2, horizontal // 2, vertical - vertical // 2, horizontal - horizontal // 2
