"""Vision Transformer and its hybrids: "An Image is Worth 16x16 Words", arXiv 2010.11929.

B batch, N tokens (1 + patches, or patches), D width, K classes. Source: models_vit.py of the original.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitsmith.layers.block import Block
from vitsmith.layers.depth import depth_rates
from vitsmith.layers.patches import PatchEmbedding, sequence
from vitsmith.layers.pooling import pool
from vitsmith.layers.positions import PositionEmbedding
from vitsmith.models.config import ViTConfig
from vitsmith.models.features import Features, record
from vitsmith.models.inputs import check_images
from vitsmith.models.resnet import ResNet


class VisionTransformer(nn.Module):
    """Images (B, 3, height, width) -> logits (B, K); (B, N, K) for the unpooled kinds; features for classes=0."""

    def __init__(self, config: ViTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.resnet = ResNet(config.resnet) if config.resnet else None
        channels = config.resnet.out_width if config.resnet else 3
        self.patches = PatchEmbedding(channels, width, config.patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width)) if config.class_token else None
        self.positions = PositionEmbedding(config.tokens, width)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.heads,
                config.mlp_width,
                gelu=config.gelu,
                norm_eps=config.norm_eps,
                dropout=config.dropout,
                attention_dropout=config.attention_dropout,
                stochastic_depth=rate,
            )
            for rate in depth_rates(config.stochastic_depth, config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=config.norm_eps)
        self.representation: nn.Module = nn.Identity()
        if config.representation:  # only in the first ImageNet-21k release
            self.representation = nn.Sequential(nn.Linear(width, config.representation), nn.Tanh())
        self.head = nn.Linear(config.feature_width, config.classes) if config.classes else nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        _, pooled = self._encode(images)
        return self.head(pooled)

    def features(self, images: Tensor, *, intermediates: Sequence[str] = ()) -> Features:
        """Tokens, pooled feature and grid; and the outputs of modules named in `intermediates`.

        Names are those of `named_modules()`, patterns allowed: "patches", "blocks.*", "blocks.3.attention.weights".
        """
        with record(self, intermediates) as seen:
            tokens, pooled = self._encode(images)
        return Features(tokens, pooled, self.config.grid, seen)

    def _encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        check_images(images, config.image_size)
        x = images if self.resnet is None else self.resnet(images)
        x = sequence(self.patches(x))  # (B, patches, D)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)  # (B, N, D)
        x = self.dropout(self.positions(x))
        for block in self.blocks:
            x = block(x)
        if config.norm_after_pooling:
            pooled = self.norm(pool(x, config.pooling, class_token=config.class_token))
        else:
            x = self.norm(x)
            pooled = pool(x, config.pooling, class_token=config.class_token)
        return x, self.representation(pooled)
