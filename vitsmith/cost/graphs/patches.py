"""Patch embedding, arXiv 2010.11929 equation 1, as the exporter writes it.

B batch, D width
"""

from __future__ import annotations

import math

from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.models.config import ImageModelConfig, ViTConfig


def embed_patches(g: Graph, config: ImageModelConfig, x: Value, channels: int) -> Value:
    """(B, channels, height, width) -> (B, patches, D), by one convolution."""
    weights = [g.weight("patches.projection.weight", (config.width, channels, *config.patch))]
    if not isinstance(config, ViTConfig) or config.patch_bias:
        weights.append(g.weight("patches.projection.bias", (config.width,)))
    grid = g.convolution(x, weights, config.patch, config.patch)
    return g.transpose(g.reshape(grid, -1, config.width, math.prod(config.grid)), 0, 2, 1)
