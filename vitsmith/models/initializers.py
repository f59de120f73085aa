"""Initialise fresh weights: all rules are here, each with its source.

| part                               | rule                                             | source              |
|------------------------------------|--------------------------------------------------|---------------------|
| attention and MLP kernels          | Xavier uniform (query, key, value one by one)    | models_vit.py       |
| MLP biases of transformers         | normal, deviation 1e-6                           | models_vit.py       |
| Mixer kernels                      | LeCun normal, biases 0                           | flax's Dense        |
| patch embedding, ResNet kernels    | LeCun normal                                     | flax's Conv         |
| position embeddings                | normal, deviation 0.02                           | models_vit.py, BERT |
| class token, head                  | zeros: a fresh model has no preference   | models_vit.py       |
| registers                          | normal, deviation 1e-6                           | arXiv 2309.16588    |
| LayerScale                         | 1e-4                                             | arXiv 2204.07118    |
| probe of attention pooling         | Xavier uniform                                   | big_vision's vit.py |
| distillation token and head        | zeros, as class token and head                   | -                   |
| last GroupNorm of a bottleneck     | scale 0, so that each unit starts as an identity | models_resnet.py    |
| text: word and position embeddings | normal, deviation 1 / sqrt(width)                | models_lit.py       |
| BERT: all kernels and embeddings   | normal, deviation 0.02                           | arXiv 1810.04805    |
"""

from __future__ import annotations

import math

from torch import nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.attention_pool import AttentionPool
from vitsmith.layers.mlp import GatedMlp, Mlp
from vitsmith.layers.patches import PatchEmbedding
from vitsmith.layers.positions import PositionEmbedding
from vitsmith.layers.scale import LayerScale
from vitsmith.layers.stdconv import StdConv2d
from vitsmith.layers.unit import UnitFeatures
from vitsmith.models.lit import LiT
from vitsmith.models.mixer import MlpMixer
from vitsmith.models.resnet import Bottleneck
from vitsmith.models.text import Bert, TextTransformer
from vitsmith.models.vit import VisionTransformer


def initialize(model: nn.Module) -> None:
    """Draw all weights of a model in place, from torch's global generator."""
    for module in model.modules():
        _initialize_part(module)
    for module in reversed(list(model.modules())):  # owners come after their parts
        _initialize_owner(module)


def reset_head(head: nn.Linear) -> None:
    """Set a head to zeros, as the original does before fine-tuning."""
    nn.init.zeros_(head.weight)
    _zero_bias(head)


def _initialize_part(module: nn.Module) -> None:
    match module:
        case Attention():
            width = module.qkv.in_features
            for kernel in module.qkv.weight.view(3, -1, width).unbind(0):
                nn.init.xavier_uniform_(kernel)
            nn.init.xavier_uniform_(module.out.weight)
            _zero_bias(module.qkv)
            _zero_bias(module.out)
        case Mlp() | GatedMlp():
            for layer in (module.widen, module.narrow):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.normal_(layer.bias, std=1e-6)
        case AttentionPool():
            nn.init.xavier_uniform_(module.probe)
            for layer in (module.query, module.key_value, module.out):
                nn.init.xavier_uniform_(layer.weight)
                _zero_bias(layer)
        case LayerScale():
            nn.init.constant_(module.factors, 1e-4)
        case PatchEmbedding():
            _lecun_normal(module.projection)
            _zero_bias(module.projection)
        case StdConv2d():
            _lecun_normal(module)
        case PositionEmbedding():
            nn.init.normal_(module.embedding, std=0.02)
        case nn.LayerNorm() | nn.GroupNorm():
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        case nn.RMSNorm():
            nn.init.ones_(module.weight)


def _initialize_owner(module: nn.Module) -> None:
    match module:
        case Bottleneck():
            nn.init.zeros_(module.norm3.weight)
        case VisionTransformer():
            if module.class_token is not None:
                nn.init.zeros_(module.class_token)
            if module.distillation_token is not None:  # differs from the class token by its position embedding
                nn.init.zeros_(module.distillation_token)
            if module.registers is not None:
                nn.init.normal_(module.registers, std=1e-6)
            if isinstance(module.distillation_head, nn.Linear):
                reset_head(module.distillation_head)
            if isinstance(module.unit, UnitFeatures) and isinstance(module.unit.projection, nn.Linear):
                _lecun_normal(module.unit.projection)
                _zero_bias(module.unit.projection)
            if isinstance(module.representation, nn.Sequential):
                _lecun_normal(module.representation[0])
                nn.init.zeros_(module.representation[0].get_parameter("bias"))
        case MlpMixer():
            for mlp in (part for part in module.modules() if isinstance(part, Mlp)):
                for layer in (mlp.widen, mlp.narrow):
                    _lecun_normal(layer)
                    nn.init.zeros_(layer.bias)
        case TextTransformer():
            nn.init.normal_(module.words.weight, std=module.config.width**-0.5)
            nn.init.normal_(module.positions.embedding, std=module.config.width**-0.5)
            if isinstance(module.head, nn.Linear):
                _lecun_normal(module.head)
                if module.config.head_bias:
                    nn.init.zeros_(module.head.bias)
        case Bert():
            for part in module.modules():
                if isinstance(part, nn.Linear | nn.Embedding):
                    nn.init.normal_(part.weight, std=0.02)
                if isinstance(part, nn.Linear):
                    nn.init.zeros_(part.bias)
        case LiT():
            nn.init.zeros_(module.log_temperature)
            if module.logit_bias is not None:
                nn.init.zeros_(module.logit_bias)
            if isinstance(module.image.head, nn.Linear):  # a projection here, not a classifier
                _lecun_normal(module.image.head)
    if isinstance(module, VisionTransformer | MlpMixer) and isinstance(module.head, nn.Linear):
        reset_head(module.head)


def _zero_bias(layer: nn.Linear | nn.Conv2d) -> None:
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _lecun_normal(layer: nn.Module) -> None:
    """Draw from a truncated normal of variance 1 / fan-in; 0.8796 is the deviation after cutting at two deviations."""
    weight = layer.get_parameter("weight")
    deviation = math.sqrt(1.0 / math.prod(weight.shape[1:])) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=deviation, a=-2 * deviation, b=2 * deviation)
