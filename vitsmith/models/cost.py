"""The cost of a model, weights and arithmetic, from its configuration alone. No torch here.

N tokens, D width. One multiply-add counts as two floating-point operations; norms, activations and additions, together
about one percent, are left out, as the papers and `torch.utils.flop_counter` do. All tokens of the last block count, as
in the papers, though that block may compute only the class token when the head needs no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from vitsmith.models.config import ImageModelConfig, LiTConfig, MixerConfig, ModelConfig, ResNetConfig, ViTConfig
from vitsmith.models.text_config import BertConfig, TextTransformerConfig


def parameters(config: ModelConfig) -> int:
    """Number of weights."""
    match config:
        case LiTConfig():
            return parameters(config.image) + _text_parameters(config.text) + 1 + config.bias
        case MixerConfig():
            block = 4 * config.width
            block += _mlp_parameters(config.tokens, config.tokens_mlp_width)
            block += _mlp_parameters(config.width, config.channels_mlp_width)
            stem = _linear_parameters(3 * math.prod(config.patch), config.width)
            return stem + config.depth * block + 2 * config.width + _linear_parameters(config.width, config.classes)
        case ViTConfig():
            return _vit_parameters(config)


def flops(config: ModelConfig) -> int:
    """Floating-point operations for one image (for LiT: and one text)."""
    match config:
        case LiTConfig():
            return flops(config.image) + _text_flops(config.text)
        case MixerConfig():
            tokens, width = config.tokens, config.width
            block = 4 * width * tokens * config.tokens_mlp_width + 4 * tokens * width * config.channels_mlp_width
            stem = 2 * tokens * 3 * math.prod(config.patch) * width
            return stem + config.depth * block + 2 * width * config.classes
        case ViTConfig():
            return _vit_flops(config)


def live_numbers(config: ImageModelConfig, *, fused: bool = True) -> int:
    """The most numbers that an image holds at once: in an attention, in an MLP, or in the front.

    The sum before a part and its norm are held throughout: 2 N D. An MLP of width M holds its hidden numbers before, in
    and after the activation; attention queries, keys, values, the result and its transpose, and two copies of its
    scores unless it is `fused`.
    """
    tokens, width = config.tokens, config.width
    if isinstance(config, MixerConfig):
        hidden = max(tokens * config.channels_mlp_width, width * config.tokens_mlp_width)
        return 2 * tokens * width + 3 * hidden
    inner = config.attention_width
    attention = 2 * tokens * width + 5 * tokens * inner
    if not fused:
        attention = max(attention, 2 * tokens * width + 3 * tokens * inner + 2 * config.heads * tokens**2)
    mlp = 2 * tokens * width + (5 if config.block.gated else 3) * tokens * config.mlp_width
    return max(attention, mlp, _front_numbers(config))


def _front_numbers(config: ViTConfig) -> int:
    """Numbers of a ResNet front at its widest: a convolution's input, its output and their normalised copy."""
    if config.resnet is None:
        return 0
    height, width = config.image_size
    stem = (height // 2) * (width // 2) * config.resnet.stem_width
    first = (height // 4) * (width // 4) * 4 * config.resnet.stem_width if config.resnet.stages else 0
    return 3 * max(stem, first)


def _vit_parameters(config: ViTConfig) -> int:
    width = config.width
    channels = config.resnet.out_width if config.resnet else 3
    count = _resnet_cost(config.resnet, config.image_size)[0] if config.resnet else 0
    count += _linear_parameters(channels * math.prod(config.patch), width, bias=config.patch_bias)
    count += width * config.prefix
    if config.position_embedding.learned != "none":
        count += width * (config.tokens - config.prefix + config.prefix_positions)
    count += config.depth * _vit_block_parameters(config)
    count += _norm_parameters(config) * (config.patch_norm + config.norm_before + config.final_norm)
    if pool := config.attention_pool:
        count += width + 4 * _linear_parameters(width, width) + 2 * width + _mlp_parameters(width, pool.mlp_width)
    if config.representation:
        count += _linear_parameters(config.pooled_width, config.representation)
    if config.unit and config.unit.width:
        count += _linear_parameters(_before_unit(config), config.unit.width, bias=config.unit.bias)
    heads = 1 + config.distillation_token
    return count + heads * _linear_parameters(config.feature_width, config.classes, bias=config.head_bias)


def _vit_block_parameters(config: ViTConfig) -> int:
    parts, width, inner = config.block, config.width, config.attention_width
    count = 2 * _norm_parameters(config)
    count += 3 * _linear_parameters(width, inner, bias=parts.qkv_bias) + _linear_parameters(inner, width)
    count += 2 * width * parts.layer_scale + 4 * (inner // config.heads) * parts.qk_norm
    count += 2 * inner * parts.attention_norm + 2 * config.mlp_width * parts.mlp_norm
    gate = _linear_parameters(width, config.mlp_width) if parts.gated else 0
    return count + gate + _mlp_parameters(width, config.mlp_width)


def _before_unit(config: ViTConfig) -> int:
    """Width of the features that are projected and divided by their length."""
    return config.representation or config.pooled_width


def _norm_parameters(config: ViTConfig) -> int:
    return config.width if config.norm == "rms" else 2 * config.width


def _vit_flops(config: ViTConfig) -> int:
    channels = config.resnet.out_width if config.resnet else 3
    count = _resnet_cost(config.resnet, config.image_size)[1] if config.resnet else 0
    count += 2 * math.prod(config.grid) * channels * math.prod(config.patch) * config.width
    for tokens, left in pairwise(config.tokens_per_block):  # a block merges tokens between attention and MLP
        count += _attention_flops(tokens, config.width, config.attention_width)
        count += _mlp_flops(left, config.width, config.mlp_width) * (3 if config.block.gated else 2) // 2
    if pool := config.attention_pool:
        count += _attention_pool_flops(left, config.width, pool.mlp_width)
    answers = config.tokens if config.pooling in ("unpooled", "token_unpooled") else 1 + config.distillation_token
    if config.representation:
        count += answers * 2 * config.pooled_width * config.representation
    if config.unit and config.unit.width:
        count += answers * 2 * _before_unit(config) * config.unit.width
    return count + answers * 2 * config.feature_width * config.classes


def _text_parameters(config: BertConfig | TextTransformerConfig) -> int:
    width = config.width
    bias = isinstance(config, BertConfig) or config.head_bias
    head = _linear_parameters(width, config.classes, bias=bias)
    if isinstance(config, BertConfig):
        embeddings = width * (config.vocabulary + config.positions + config.segments)
    else:
        embeddings = width * (config.vocabulary + config.length)
    return embeddings + _encoder_parameters(width, config.depth, config.mlp_width) + head


def _text_flops(config: BertConfig | TextTransformerConfig) -> int:
    encoder = _encoder_flops(config.length, config.width, config.depth, config.mlp_width)
    return encoder + 2 * config.width * config.classes


def _encoder_parameters(width: int, depth: int, mlp_width: int, attention_width: int | None = None) -> int:
    """Weights of blocks with two norms, four projections and an MLP each, and of one more norm."""
    inner = attention_width or width
    projections = 3 * _linear_parameters(width, inner) + _linear_parameters(inner, width)
    return depth * (4 * width + projections + _mlp_parameters(width, mlp_width)) + 2 * width


def _encoder_flops(tokens: int, width: int, depth: int, mlp_width: int) -> int:
    return depth * (_attention_flops(tokens, width, width) + _mlp_flops(tokens, width, mlp_width))


def _attention_flops(tokens: int, width: int, inner: int) -> int:
    """Operations of four projections, scores and weighted sums; `inner` is the width of all heads together."""
    return 2 * tokens * width * 4 * inner + 2 * 2 * tokens * tokens * inner


def _attention_pool_flops(tokens: int, width: int, mlp_width: int) -> int:
    """Operations of keys and values, one query, its scores and weighted sum, its output and MLP."""
    return (
        2 * tokens * width * 2 * width
        + 2 * 2 * width * width
        + 2 * 2 * tokens * width
        + _mlp_flops(1, width, mlp_width)
    )


def _mlp_flops(tokens: int, width: int, mlp_width: int) -> int:
    return 2 * 2 * tokens * width * mlp_width


def _mlp_parameters(width: int, hidden: int) -> int:
    return _linear_parameters(width, hidden) + _linear_parameters(hidden, width)


def _linear_parameters(inputs: int, outputs: int, *, bias: bool = True) -> int:
    return (inputs + bias) * outputs


@dataclass(frozen=True)
class Convolution:
    """A convolution of a ResNet front; `size` is that of its output, (height, width)."""

    kernel: int
    inputs: int
    outputs: int
    size: tuple[int, int]

    @property
    def weights(self) -> int:
        return self.kernel**2 * self.inputs * self.outputs


def convolutions(config: ResNetConfig, image_size: tuple[int, int]) -> Iterator[Convolution]:
    """The convolutions of the ResNet front of a hybrid, in order; see `models/resnet.py`."""
    size = _halved(image_size)
    yield Convolution(7, 3, config.stem_width, size)
    size, channels = _halved(size), config.stem_width
    for stage, units in enumerate(config.stages):
        width = config.stem_width * 2**stage
        for unit in range(units):
            before = size
            if unit == 0 and stage > 0:
                size = _halved(size)
            if unit == 0:
                yield Convolution(1, channels, 4 * width, size)
            yield Convolution(1, channels, width, before)
            yield Convolution(3, width, width, size)
            yield Convolution(1, width, 4 * width, size)
            channels = 4 * width


def _resnet_cost(config: ResNetConfig, image_size: tuple[int, int]) -> tuple[int, int]:
    """(weights including norms, operations) of the ResNet front."""
    found = list(convolutions(config, image_size))
    weights = sum(one.weights + 2 * one.outputs for one in found)
    return weights, sum(2 * math.prod(one.size) * one.weights for one in found)


def _halved(size: tuple[int, int]) -> tuple[int, int]:
    return -(-size[0] // 2), -(-size[1] // 2)
