"""Vision Transformer and its hybrids: "An Image is Worth 16x16 Words", arXiv 2010.11929.

B batch, N tokens (patches, and before them class token, distillation token and registers; where tokens merge, the
remaining ones), D width, K classes. Sources: models_vit.py of the original; for the distillation token "Training
data-efficient image transformers & distillation through attention", arXiv 2012.12877 section 4; for registers "Vision
Transformers Need Registers", arXiv 2309.16588.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitsmith.layers.attention import Attention
from vitsmith.layers.attention_pool import AttentionPool
from vitsmith.layers.block import Block
from vitsmith.layers.depth import depth_rates
from vitsmith.layers.eager import is_watched
from vitsmith.layers.merging import MergingBlock
from vitsmith.layers.mlp import GatedMlp, Mlp
from vitsmith.layers.norm import norm_of
from vitsmith.layers.patches import PatchEmbedding, sequence
from vitsmith.layers.pooling import pool
from vitsmith.layers.positions import PositionEmbedding
from vitsmith.layers.rotary import Rotary
from vitsmith.layers.unit import UnitFeatures
from vitsmith.models.config import ViTConfig
from vitsmith.models.features import Features, record
from vitsmith.models.inputs import check_images
from vitsmith.models.resnet import ResNet


class VisionTransformer(nn.Module):
    """Images (B, 3, height, width) -> logits (B, K); (B, N, K) for the unpooled kinds; features for classes=0.

    With a distillation token there are two heads. In training mode their logits are separate, (B, 2, K), the class
    head's first, because each head has its own loss. In eval mode the output is their mean, (B, K).
    """

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.resnet = ResNet(config.resnet) if config.resnet else None
        channels = config.resnet.out_width if config.resnet else 3
        self.patches = PatchEmbedding(channels, width, config.patch, bias=config.patch_bias)
        self.patch_norm = _norm(config) if config.patch_norm else nn.Identity()
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if config.class_token else None
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width)) if config.distillation_token else None
        self.registers = nn.Parameter(torch.zeros(1, config.registers, width)) if config.registers else None
        self.positions = _positions(config)
        self.rotary = _rotary(config)
        self.dropout = nn.Dropout(config.dropout)
        self.norm_before = _norm(config) if config.norm_before else nn.Identity()
        self.blocks = nn.ModuleList(
            _block(config, index, rate) for index, rate in enumerate(depth_rates(config.stochastic_depth, config.depth))
        )
        self.norm = _norm(config) if config.final_norm else nn.Identity()
        self.attention_pool = _attention_pool(config)
        self.representation: nn.Module = nn.Identity()
        if config.representation:  # only in the first ImageNet-21k release
            self.representation = nn.Sequential(nn.Linear(config.pooled_width, config.representation), nn.Tanh())
        self.unit = _unit(config)
        self.head = _head(config)
        self.distillation_head = _head(config) if config.distillation_token else None

    def forward(self, images: Tensor) -> Tensor:
        # The tokens of the last block that the head does not need take a 20th of a Ti's time; features() and hooks need
        # them.
        prefix_only = self.config.pooling == "token" and (self.training or not is_watched(self.blocks[-1], self.norm))
        _, pooled = self._encode(images, kept=1 + self.config.distillation_token if prefix_only else None)
        return self.answer(pooled)

    def answer(self, pooled: Tensor) -> Tensor:
        """What `forward` gives for pooled tokens, before any representation: (B, width) -> (B, K) or features.

        With a distillation token these are its tokens and the class token's, (B, 2, width).
        """
        seen = self._seen_by_head(pooled)
        if self.distillation_head is None:
            return self.head(seen)
        logits = torch.stack([self.head(seen[:, 0]), self.distillation_head(seen[:, 1])], dim=1)
        return logits if self.training else logits.mean(dim=1)

    def features(self, images: Tensor, *, intermediates: Sequence[str] = ()) -> Features:
        """Tokens, pooled feature and grid; and the outputs of modules named in `intermediates`.

        Names are those of `named_modules()`, patterns allowed: "patches", "blocks.*", "blocks.3.attention.weights".
        """
        with record(self, intermediates) as recorded:
            tokens, pooled = self._encode(images)
            seen = self._seen_by_head(pooled)
        pooled = seen.mean(dim=1) if self.config.distillation_token else seen
        return Features(tokens, pooled, self.config.grid, recorded)

    def _encode(self, images: Tensor, kept: int | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) and what is pooled of them: (B, pooled width), or (B, 2, D) for two heads.

        The last block computes all tokens, or only the first `kept`.
        """
        config = self.config
        x = self.norm_before(self.dropout(self._embed(images)))
        turns = None if self.rotary is None else self.rotary.turns(x.device)
        sizes = None
        if config.merge:
            for block in self.blocks[:-1]:
                x, sizes = block(x, sizes)
            x, sizes = self.blocks[-1](x, sizes, kept)
        else:
            for block in self.blocks[:-1]:
                x = block(x, turns=turns)
            x = self.blocks[-1](x, kept, turns)
        if config.norm_after_pooling:
            pooled = self.norm(self._pool(x, sizes))
        else:
            x = self.norm(x)
            pooled = self._pool(x, sizes)
        return x, pooled

    def _seen_by_head(self, pooled: Tensor) -> Tensor:
        """Pooled tokens (..., pooled width) -> the input of the head, (..., feature width)."""
        return self.unit(self.representation(pooled))

    def _embed(self, images: Tensor) -> Tensor:
        """Images -> (B, N, D): the tokens before the patches, and the patches, with their learned positions."""
        config = self.config
        check_images(images, config.image_size)
        x = images if self.resnet is None else self.resnet(images)
        x = self.patch_norm(sequence(self.patches(x)))  # (B, patches, D)
        tokens = (self.class_token, self.distillation_token, self.registers)
        before = [one.expand(x.shape[0], -1, -1) for one in tokens if one is not None]
        if self.positions is None:
            return torch.cat([*before, x], dim=1)
        if config.prefix_positions == config.prefix:
            return self.positions(torch.cat([*before, x], dim=1) if before else x)
        placed = config.prefix_positions  # the class token alone, or nothing: the others have no position
        x = self.positions(torch.cat([*before[:placed], x], dim=1))
        return torch.cat([x[:, :placed], *before[placed:], x[:, placed:]], dim=1)

    def _pool(self, x: Tensor, sizes: Tensor | None) -> Tensor:
        """Tokens (B, N, D) -> (B, pooled width); the two tokens, (B, 2, D), of a model with two heads."""
        if self.distillation_head is not None:
            return x[:, :2]
        if self.attention_pool is not None:
            return self.attention_pool(x, sizes)
        return pool(x, self.config.pooling, prefix=self.config.prefix, sizes=sizes)


def _norm(config: ViTConfig) -> nn.Module:
    return norm_of(config.norm, config.width, eps=config.norm_eps)


def _positions(config: ViTConfig) -> PositionEmbedding | None:
    if config.position_embedding.learned == "none":
        return None
    return PositionEmbedding(config.tokens - config.prefix + config.prefix_positions, config.width)


def _rotary(config: ViTConfig) -> Rotary | None:
    rotary = config.position_embedding.rotary
    if rotary is None:
        return None
    return Rotary(rotary, config.attention_width // config.heads, config.grid, config.prefix)


def _block(config: ViTConfig, index: int, rate: float) -> Block:
    """Block `index` of an encoder; `rate` is that of its stochastic depth."""
    parts, eps = config.block, config.norm_eps
    attention = Attention(
        config.width,
        config.heads,
        config.attention_dropout,
        head_width=config.head_width,
        bias=parts.qkv_bias,
        head_norm_eps=eps if parts.qk_norm else None,
        out_norm_eps=eps if parts.attention_norm else None,
    )
    mlp_norm_eps = eps if parts.mlp_norm else None
    mlp = (
        GatedMlp(config.width, config.mlp_width, config.dropout, norm_eps=mlp_norm_eps)
        if parts.gated
        else Mlp(config.width, config.mlp_width, config.gelu, config.dropout, norm_eps=mlp_norm_eps)
    )
    options: dict[str, Any] = {
        "norm_eps": eps,
        "norm": config.norm,
        "layer_scale": parts.layer_scale,
        "dropout": config.dropout,
        "stochastic_depth": rate,
    }
    if config.merge:
        return MergingBlock(config.width, attention, mlp, count=config.merge[index], prefix=config.prefix, **options)
    return Block(config.width, attention, mlp, **options)


def _attention_pool(config: ViTConfig) -> AttentionPool | None:
    part = config.attention_pool
    if part is None:
        return None
    return AttentionPool(config.width, part.heads, part.mlp_width, gelu=config.gelu, norm_eps=config.norm_eps)


def _unit(config: ViTConfig) -> nn.Module:
    part = config.unit
    if part is None:
        return nn.Identity()
    return UnitFeatures(config.representation or config.pooled_width, part.width, bias=part.bias)


def _head(config: ViTConfig) -> nn.Module:
    return nn.Linear(config.feature_width, config.classes, bias=config.head_bias) if config.classes else nn.Identity()
