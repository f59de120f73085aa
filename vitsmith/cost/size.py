"""The size of a model on disk, by engine and precision: its weights or program, without the other files of a bundle."""

from __future__ import annotations

import math
from collections.abc import Iterator

from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ResNetConfig, ViTConfig
from vitsmith.models.cost import convolutions, parameters

NODE = 940
"""Bytes that describe an operation of a program, with its name, the module it is from, and the shape it gives."""
BLOCK_NODES = 29
"""Operations of a block of a ViT; of a Mixer it has 17, and each further part adds some."""
SCALES = {"onnx": 5, "openvino": 4}
"""Bytes of an int8 matrix beside its numbers, for each output: its scale, and for onnxruntime the code of zero."""
ROUNDING = {"onnx": 800, "openvino": 3130}
"""Bytes that describe the operations which round a matrix and what it is multiplied by."""

_Sides = Iterator[tuple[int, int]]


def size_of(config: ModelConfig, engine: str, precision: str) -> int:
    """Bytes of the files of weights, or of the program; in bf16 its weights are float32 on disk.

    An int8 program is that of the static scheme of `quantize` with all of it in int8.
    """
    tower = config.image if isinstance(config, LiTConfig) else config  # text towers stay in fp32
    whole = 4 * parameters(config)
    if engine == "torch":
        return whole
    whole += NODE * _nodes(tower) + _folded(tower)
    if precision != "int8":
        return whole
    matrices = list(_int8_matrices(tower, engine))
    saved = sum(3 * inputs * outputs - SCALES[engine] * outputs for inputs, outputs in matrices)
    return whole - saved + ROUNDING[engine] * len(matrices)


# ---------------------------------------------------------------- operations, and constants that export computes


def _nodes(config: ViTConfig | MixerConfig) -> int:
    """Operations of the exported program, about."""
    if isinstance(config, MixerConfig):
        return 6 + 17 * config.depth
    parts = config.block
    block = BLOCK_NODES + 2 * parts.layer_scale + 3 * parts.gated + 2 * (config.gelu == "quick")
    block += 10 * (parts.qk_norm or parts.attention_norm) + parts.mlp_norm
    block += 12 * bool(config.position_embedding.rotary) + 6 * (config.norm == "rms")
    merging = sum(1 for removed in config.merge or () if removed)
    resnet = _resnet_nodes(config.resnet, config.image_size) if config.resnet else 0
    return 12 + block * config.depth + 40 * merging + resnet


def _resnet_nodes(config: ResNetConfig, image_size: tuple[int, int]) -> int:
    """A convolution comes with its padding, its GroupNorm and its activation."""
    return 10 * sum(1 for _ in convolutions(config, image_size))


def _folded(config: ViTConfig | MixerConfig) -> int:
    """Bytes that `exporters/folding.py` adds or saves: tables of rotary positions, and the query of a pool."""
    if isinstance(config, MixerConfig):
        return 0
    added = 0
    if config.position_embedding.rotary:
        added += 2 * 4 * config.tokens * config.attention_width // config.heads
    if config.attention_pool:
        width, heads = config.width, config.attention_pool.heads
        added += 4 * (heads * width - 2 * width * (width + 1) - width)
    return added


# ---------------------------------------------------------------- matrices


def _int8_matrices(config: ViTConfig | MixerConfig, engine: str) -> _Sides:
    """(inputs, outputs) of the matrices and kernels that `compress/quantize` makes int8."""
    yield from _mixer_matrices(config) if isinstance(config, MixerConfig) else _vit_matrices(config, engine)
    resnet = config.resnet if isinstance(config, ViTConfig) else None
    if engine != "openvino":
        return
    yield (resnet.out_width if resnet else 3) * math.prod(config.patch), config.width
    if resnet:
        yield from ((one.weights // one.outputs, one.outputs) for one in convolutions(resnet, config.image_size))


def _vit_matrices(config: ViTConfig, engine: str) -> _Sides:
    width, inner, hidden = config.width, config.attention_width, config.mlp_width
    folded = not (config.block.qk_norm or config.block.attention_norm)
    for _ in range(config.depth):
        yield from ((width, inner),) * 3 if folded else ((width, 3 * inner),)
        yield inner, width
        yield width, hidden * (1 + config.block.gated)
        yield hidden, width
    if engine == "onnx":
        yield from _head_matrices(config)


def _head_matrices(config: ViTConfig) -> _Sides:
    """Those after the blocks: onnxruntime rounds products of all tokens, and no other."""
    if config.attention_pool:
        yield config.width, config.attention_pool.heads
    unpooled = config.pooling in ("unpooled", "token_unpooled")
    features = config.pooled_width
    if not (unpooled or config.distillation_token):
        return
    if config.representation:
        yield features, config.representation
        features = config.representation
    if config.unit and config.unit.width:
        yield features, config.unit.width
    if unpooled and config.classes:
        yield config.feature_width, config.classes


def _mixer_matrices(config: MixerConfig) -> _Sides:
    for _ in range(config.depth):
        for inputs, hidden in ((config.tokens, config.tokens_mlp_width), (config.width, config.channels_mlp_width)):
            yield inputs, hidden
            yield hidden, inputs
