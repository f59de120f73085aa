"""Layer normalisation, arXiv 1607.06450, and the root mean square's, arXiv 1910.07467, as the exporter writes them."""

from __future__ import annotations

import numpy as np

from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.models.config import ViTConfig


def norm(g: Graph, config: ViTConfig, name: str, x: Value, *, axis: int = 2) -> Value:
    """A norm of tokens over their last axis: LayerNorm or RMSNorm."""
    if config.norm == "layer":
        return layer_norm(g, name, x, config.width, config.norm_eps)
    squares = g.mean(g.node("Pow", x, g.constant(np.array(2.0, np.float32))), axis, keep=True)
    root = g.node("Sqrt", g.add(squares, g.constant(np.array(config.norm_eps, np.float32))))
    return g.mul(g.mul(x, g.node("Reciprocal", root)), g.weight(f"{name}.weight", (config.width,), centre=1.0))


def layer_norm(g: Graph, name: str, x: Value, width: int, eps: float) -> Value:
    """LayerNorm over the last axis."""
    weights = g.weight(f"{name}.weight", (width,), centre=1.0), g.weight(f"{name}.bias", (width,))
    return g.node("LayerNormalization", x, *weights, axis=-1, epsilon=float(eps), stash_type=1)
