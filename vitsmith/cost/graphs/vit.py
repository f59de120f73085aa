"""Vision Transformers as the exporter writes them: "An Image is Worth 16x16 Words", arXiv 2010.11929.

B batch, N tokens, D width, K classes
"""

from __future__ import annotations

import math

from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.graphs.block import block
from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.cost.graphs.norms import norm
from vitsmith.cost.graphs.onnx_bytes import OnnxPort
from vitsmith.models.config import ViTConfig


def vit_graph(config: ViTConfig) -> Graph:
    """Images (B, 3, height, width) -> logits (B, K). Raises UnpredictedError for parts that are not covered."""
    _check(config)
    g = Graph(input=OnnxPort("images", ("batch", 3, *config.image_size)))
    pooled = encode(g, config)
    _head(g, config, pooled)
    return g


def encode(g: Graph, config: ViTConfig) -> Value:
    """Images -> the input of the head, (B, D). The last block computes only the tokens that are pooled."""
    x = _embed(g, config)
    if config.norm_before:
        x = norm(g, config, "norm_before", x)
    for index in range(config.depth):
        x = block(g, config, index, x, kept=1 if index == config.depth - 1 else None)
    return g.select(norm(g, config, "norm", x) if config.final_norm else x, 0, 1)


def _embed(g: Graph, config: ViTConfig) -> Value:
    """Images -> (B, N, D): the class token and the patches, with their positions."""
    batch = g.node("Shape", g.input.name, start=0, end=1)
    patches = embed_patches(g, config, g.input.name, 3)
    one = g.ints(1)
    sizes = g.concat(batch, one, one, axis=0)
    token = g.node("Expand", g.weight("class_token", (1, 1, config.width)), sizes)
    g.shaped(token, "batch", 1, config.width)
    x = g.concat(token, patches, axis=1)
    return g.add(x, g.weight("positions.embedding", (1, config.tokens, config.width)))


def embed_patches(g: Graph, config: ViTConfig, x: Value, channels: int) -> Value:
    """(B, channels, height, width) -> (B, patches, D), by one convolution."""
    weights = [g.weight("patches.projection.weight", (config.width, channels, *config.patch))]
    if config.patch_bias:
        weights.append(g.weight("patches.projection.bias", (config.width,)))
    grid = g.convolution(x, weights, config.patch, config.patch)
    return g.transpose(g.reshape(grid, -1, config.width, math.prod(config.grid)), 0, 2, 1)


def _head(g: Graph, config: ViTConfig, seen: Value) -> None:
    if config.classes:
        seen = g.gemm(seen, "head", config.feature_width, config.classes, bias=config.head_bias)
    g.output = OnnxPort(seen, ("batch", config.classes or config.feature_width))


def _check(config: ViTConfig) -> None:
    positions = config.position_embedding
    parts = {
        "rotary positions": positions.rotary is not None, "patch_norm": config.patch_norm,
        f"positions {positions.learned!r}": positions.learned != "all",
        "resnet": config.resnet, "distillation_token": config.distillation_token, "registers": config.registers,
        "representation": config.representation, "unit": config.unit, "merge": bool(config.merge),
        f"pooling {config.pooling!r}": config.pooling != "token",
    }  # fmt: skip
    missing = [name for name, there in parts.items() if there]
    if missing:
        raise UnpredictedError(f"no graph can be made of a model with {', '.join(missing)}")
