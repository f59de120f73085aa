"""The tokens before the first block as the exporter writes them: patches, learned tokens and learned positions.

B batch, N tokens, D width
"""

from __future__ import annotations

from vitsmith.cost.graphs.graph import END, Graph, Value
from vitsmith.cost.graphs.norms import norm
from vitsmith.cost.graphs.patches import embed_patches
from vitsmith.cost.graphs.resnet import resnet
from vitsmith.models.config import ViTConfig


def embed(g: Graph, config: ViTConfig) -> Value:
    """Images -> (B, N, D): the tokens before the patches, and the patches, with their learned positions."""
    seen, channels = g.input.name, 3
    if config.resnet is not None:
        maps = resnet(g, config.resnet, seen, config.image_size)
        seen, channels = maps.value, maps.channels
    patches = embed_patches(g, config, seen, channels)
    if config.patch_norm:
        patches = norm(g, config, "patch_norm", patches)
    before = _tokens_before(g, config)
    if config.position_embedding.learned == "none":
        return _joined(g, *before, patches)
    placed = config.prefix_positions
    if placed == config.prefix:
        return _with_positions(g, config, _joined(g, *before, patches))
    x = _with_positions(g, config, _joined(g, *before[:placed], patches))
    if not placed:
        return _joined(g, *before, x)
    return _joined(g, g.slice(x, 0, placed, 1), *before[placed:], g.slice(x, placed, END, 1))


def _tokens_before(g: Graph, config: ViTConfig) -> list[Value]:
    """Class token, distillation token and registers, those that the model has, each (B, its tokens, D)."""
    counts = {
        "class_token": int(config.class_token), "distillation_token": int(config.distillation_token),
        "registers": config.registers,
    }  # fmt: skip
    if not any(counts.values()):
        return []
    one = g.ints(1)
    sizes = g.concat(g.node("Shape", g.input.name, start=0, end=1), one, one, axis=0)
    return [
        g.shaped(g.node("Expand", g.weight(name, (1, count, config.width)), sizes), "batch", count, config.width)
        for name, count in counts.items()
        if count
    ]


def _joined(g: Graph, *parts: Value) -> Value:
    """Tokens one behind the other, (B, N, D)."""
    return g.concat(*parts, axis=1) if len(parts) > 1 else parts[0]


def _with_positions(g: Graph, config: ViTConfig, x: Value) -> Value:
    """`x` and the learned position of each of its tokens, added up."""
    tokens = config.tokens - config.prefix + config.prefix_positions
    return g.add(x, g.weight("positions.embedding", (1, tokens, config.width)))
