"""A pre-norm transformer block, arXiv 2010.11929 figure 1, as the exporter writes it.

B batch, N tokens, D width, H heads, d head width
"""

from __future__ import annotations

from vitsmith.cost.graphs.attention import attention
from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.cost.graphs.mlp import gated_mlp, mlp
from vitsmith.cost.graphs.norms import norm
from vitsmith.layers.turns import TurnTables
from vitsmith.models.config import ViTConfig


def block(
    g: Graph, config: ViTConfig, index: int, x: Value, *, kept: int | None, turns: TurnTables | None = None
) -> Value:
    """x + Attention(Norm(x)), then x + Mlp(Norm(x)), for all tokens (B, N, D) or for the first `kept`."""
    name = f"blocks.{index}"
    seen = attention(g, config, f"{name}.attention", norm(g, config, f"{name}.norm1", x), kept=kept, turns=turns)
    before = x if kept is None else g.slice(x, 0, kept, 1)
    return _with_mlp(g, config, name, g.add(before, _scaled(g, config, f"{name}.scale1", seen)))


def _with_mlp(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    """x + Mlp(Norm(x)) of the block of that name."""
    y = norm(g, config, f"{name}.norm2", x)
    sizes, norm_eps = (config.width, config.mlp_width), config.norm_eps if config.block.mlp_norm else None
    if config.block.gated:
        y = gated_mlp(g, f"{name}.mlp", y, *sizes, norm_eps=norm_eps)
    else:
        y = mlp(g, f"{name}.mlp", y, *sizes, gelu=config.gelu, norm_eps=norm_eps)
    return g.add(x, _scaled(g, config, f"{name}.scale2", y))


def _scaled(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    """LayerScale, if the model has it."""
    return g.mul(x, g.weight(f"{name}.factors", (config.width,), centre=1.0)) if config.block.layer_scale else x
