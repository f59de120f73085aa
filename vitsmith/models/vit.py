"""Vision Transformer and its hybrids: "An Image is Worth 16x16 Words", arXiv 2010.11929.

B batch, N tokens (patches, and before them the class token and the distillation token; where tokens merge, the
remaining ones), D width, K classes. Sources: models_vit.py of the original; for the distillation token "Training
data-efficient image transformers & distillation through attention", arXiv 2012.12877 section 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitsmith.layers.block import Block
from vitsmith.layers.depth import depth_rates
from vitsmith.layers.eager import is_watched
from vitsmith.layers.merging import MergingBlock
from vitsmith.layers.norm import LayerNorm
from vitsmith.layers.patches import PatchEmbedding, sequence
from vitsmith.layers.pooling import pool
from vitsmith.layers.positions import PositionEmbedding
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
        self.patches = PatchEmbedding(channels, width, config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if config.class_token else None
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, width)) if config.distillation_token else None
        self.positions = PositionEmbedding(config.tokens, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            _block(config, index, rate) for index, rate in enumerate(depth_rates(config.stochastic_depth, config.depth))
        )
        self.norm = LayerNorm(width, eps=config.norm_eps)
        self.representation: nn.Module = nn.Identity()
        if config.representation:  # only in the first ImageNet-21k release
            self.representation = nn.Sequential(nn.Linear(width, config.representation), nn.Tanh())
        self.head = _head(config)
        self.distillation_head = _head(config) if config.distillation_token else None

    def forward(self, images: Tensor) -> Tensor:
        # The tokens of the last block that the head does not need take a 20th of a Ti's time; features() and hooks need
        # them.
        prefix_only = self.config.pooling == "token" and (self.training or not is_watched(self.blocks[-1], self.norm))
        _, seen = self._encode(images, kept=self.config.prefix if prefix_only else None)
        if self.distillation_head is None:
            return self.head(seen)
        logits = torch.stack([self.head(seen[:, 0]), self.distillation_head(seen[:, 1])], dim=1)
        return logits if self.training else logits.mean(dim=1)

    def features(self, images: Tensor, *, intermediates: Sequence[str] = ()) -> Features:
        """Tokens, pooled feature and grid; and the outputs of modules named in `intermediates`.

        Names are those of `named_modules()`, patterns allowed: "patches", "blocks.*", "blocks.3.attention.weights".
        """
        with record(self, intermediates) as recorded:
            tokens, seen = self._encode(images)
        pooled = seen.mean(dim=1) if self.config.distillation_token else seen
        return Features(tokens, pooled, self.config.grid, recorded)

    def _encode(self, images: Tensor, kept: int | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (B, N, D) and the input of the head: (B, feature width), or (B, 2, feature width) for two heads.

        The last block computes all tokens, or only the first `kept`.
        """
        config = self.config
        check_images(images, config.image_size)
        x = images if self.resnet is None else self.resnet(images)
        x = sequence(self.patches(x))  # (B, patches, D)
        prefix = [token for token in (self.class_token, self.distillation_token) if token is not None]
        if prefix:
            x = torch.cat([*(token.expand(x.shape[0], -1, -1) for token in prefix), x], dim=1)  # (B, N, D)
        x = self.dropout(self.positions(x))
        sizes = None
        if config.merge:
            for block in self.blocks[:-1]:
                x, sizes = block(x, sizes)
            x, sizes = self.blocks[-1](x, sizes, kept)
        else:
            for block in self.blocks[:-1]:
                x = block(x)
            x = self.blocks[-1](x, kept)
        if config.norm_after_pooling:
            pooled = self.norm(pool(x, config.pooling, class_token=config.class_token, sizes=sizes))
        else:
            x = self.norm(x)
            two = config.distillation_token
            pooled = x[:, :2] if two else pool(x, config.pooling, class_token=config.class_token, sizes=sizes)
        return x, self.representation(pooled)


def _block(config: ViTConfig, index: int, rate: float) -> Block:
    """Block `index` of an encoder; `rate` is that of its stochastic depth."""
    sizes = (config.width, config.heads, config.mlp_width)
    options: dict[str, Any] = {
        "head_width": config.head_width,
        "gelu": config.gelu,
        "norm_eps": config.norm_eps,
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "stochastic_depth": rate,
    }
    if config.merge:
        return MergingBlock(*sizes, count=config.merge[index], prefix=config.prefix, **options)
    return Block(*sizes, **options)


def _head(config: ViTConfig) -> nn.Module:
    return nn.Linear(config.feature_width, config.classes) if config.classes else nn.Identity()
