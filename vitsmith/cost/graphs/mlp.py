"""The MLP of a block, arXiv 2010.11929 equation 3, and its gated form, as the exporter writes them."""

from __future__ import annotations

import numpy as np

from vitsmith.cost.graphs.graph import END, Graph, Value
from vitsmith.cost.graphs.norms import layer_norm
from vitsmith.models.parts import Gelu


def mlp(g: Graph, name: str, x: Value, width: int, hidden: int, *, gelu: Gelu, norm_eps: float | None = None) -> Value:
    """narrow(gelu(widen(x))) over the last axis, which has `width` numbers, with `hidden` ones between.

    `norm_eps` adds a LayerNorm before `narrow`.
    """
    y = activation(g, g.linear(x, f"{name}.widen", width, hidden), gelu)
    if norm_eps is not None:
        y = layer_norm(g, f"{name}.norm", y, hidden, norm_eps)
    return g.linear(y, f"{name}.narrow", hidden, width)


def gated_mlp(g: Graph, name: str, x: Value, width: int, hidden: int, *, norm_eps: float | None = None) -> Value:
    """narrow(silu(gate) * value) of (B, N, width), arXiv 2002.05202; otherwise as `mlp`."""
    both = g.linear(x, f"{name}.widen", width, 2 * hidden)
    gate, value = g.slice(both, 0, hidden, 2), g.slice(both, hidden, END, 2)
    y = g.mul(g.mul(gate, g.node("Sigmoid", gate)), value)
    if norm_eps is not None:
        y = layer_norm(g, f"{name}.norm", y, hidden, norm_eps)
    return g.linear(y, f"{name}.narrow", hidden, width)


def activation(g: Graph, x: Value, form: Gelu) -> Value:
    """GELU in one of its three forms; see `layers/mlp.py`."""
    if form != "quick":
        return g.node("Gelu", x, approximate="tanh" if form == "tanh" else "none")
    return g.mul(x, g.node("Sigmoid", g.mul(x, g.constant(np.array(1.702, np.float32)))))
