"""A pre-norm transformer block, arXiv 2010.11929 figure 1, as the exporter writes it.

B batch, N tokens, D width, H heads, d head width
"""

from __future__ import annotations

import numpy as np

from vitsmith.cost.graphs.attention import attention
from vitsmith.cost.graphs.graph import END, Graph, Value
from vitsmith.cost.graphs.norms import layer_norm, norm
from vitsmith.models.config import ViTConfig
from vitsmith.models.parts import Gelu


def block(g: Graph, config: ViTConfig, index: int, x: Value, *, kept: int | None) -> Value:
    """x + Attention(Norm(x)), then x + Mlp(Norm(x)), for all tokens (B, N, D) or for the first `kept`."""
    name = f"blocks.{index}"
    seen = attention(g, config, f"{name}.attention", norm(g, config, f"{name}.norm1", x), kept=kept)
    before = x if kept is None else g.slice(x, 0, kept, 1)
    return _with_mlp(g, config, name, g.add(before, _scaled(g, config, f"{name}.scale1", seen)))


def _with_mlp(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    """x + Mlp(Norm(x)) of the block of that name."""
    y = norm(g, config, f"{name}.norm2", x)
    y = _gated_mlp(g, config, f"{name}.mlp", y) if config.block.gated else _mlp(g, config, f"{name}.mlp", y)
    return g.add(x, _scaled(g, config, f"{name}.scale2", y))


def _scaled(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    """LayerScale, if the model has it."""
    return g.mul(x, g.weight(f"{name}.factors", (config.width,), centre=1.0)) if config.block.layer_scale else x


def _mlp(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    hidden = _gelu(g, g.linear(x, f"{name}.widen", config.width, config.mlp_width), config.gelu)
    if config.block.mlp_norm:
        hidden = layer_norm(g, f"{name}.norm", hidden, config.mlp_width, config.norm_eps)
    return g.linear(hidden, f"{name}.narrow", config.mlp_width, config.width)


def _gated_mlp(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    """narrow(silu(gate) * value), arXiv 2002.05202."""
    width = config.mlp_width
    both = g.linear(x, f"{name}.widen", config.width, 2 * width)
    gate, value = g.slice(both, 0, width, 2), g.slice(both, width, END, 2)
    hidden = g.mul(g.mul(gate, g.node("Sigmoid", gate)), value)
    if config.block.mlp_norm:
        hidden = layer_norm(g, f"{name}.norm", hidden, width, config.norm_eps)
    return g.linear(hidden, f"{name}.narrow", width, config.width)


def _gelu(g: Graph, x: Value, form: Gelu) -> Value:
    """GELU in one of its three forms; see `layers/mlp.py`."""
    if form != "quick":
        return g.node("Gelu", x, approximate="tanh" if form == "tanh" else "none")
    return g.mul(x, g.node("Sigmoid", g.mul(x, g.constant(np.array(1.702, np.float32)))))
