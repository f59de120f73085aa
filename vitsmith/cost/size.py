"""The size of a model on disk, by engine and precision: its weights or program."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.cost import convolutions, parameters

SCALES = {"onnx": 5, "openvino": 4}
"""Bytes of an int8 matrix beside its numbers, for each output: its scale, and for onnxruntime the code of zero."""


def size_of(config: ModelConfig, engine: str, precision: str) -> int:
    """Bytes of the files of weights; in bf16 they are float32 on disk."""
    whole = 4 * parameters(config)
    if precision != "int8":
        return whole
    tower = config.image if isinstance(config, LiTConfig) else config  # text towers stay in fp32
    matrices = list(_mixer_matrices(tower) if isinstance(tower, MixerConfig) else _matrices(tower, engine))
    if engine == "openvino":
        matrices.append((_patch_inputs(tower), tower.width))
    return whole - sum(3 * inputs * outputs - SCALES[engine] * outputs for inputs, outputs in matrices)


def _matrices(config: ViTConfig, engine: str) -> Iterator[tuple[int, int]]:
    """(inputs, outputs) of the matrices of a ViT that `compress/quantize` makes int8."""
    width, inner, hidden = config.width, config.attention_width, config.mlp_width
    for _ in range(config.depth):
        yield width, 3 * inner
        yield inner, width
        yield width, hidden * (1 + config.block.gated)
        yield hidden, width
    if config.attention_pool:
        yield from ((width, width),) * (2 if engine == "onnx" else 0)
    if config.resnet and engine == "openvino":
        yield from ((one.weights // one.outputs, one.outputs) for one in convolutions(config.resnet, config.image_size))


def _mixer_matrices(config: MixerConfig) -> Iterator[tuple[int, int]]:
    """The same of a Mixer."""
    for _ in range(config.depth):
        for inputs, hidden in ((config.tokens, config.tokens_mlp_width), (config.width, config.channels_mlp_width)):
            yield inputs, hidden
            yield hidden, inputs


def _patch_inputs(config: ViTConfig | MixerConfig) -> int:
    """Numbers of the input that become one token."""
    resnet = config.resnet if isinstance(config, ViTConfig) else None
    return (resnet.out_width if resnet else 3) * math.prod(config.patch)
