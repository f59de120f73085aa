"""Multi-head self-attention, arXiv 1706.03762 section 3.2.2, as the exporter writes it.

B batch, N tokens, D width, H heads, d head width, t = H * d
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.graphs.graph import END, Graph, Value
from vitsmith.cost.graphs.norms import layer_norm
from vitsmith.cost.graphs.rotary import turn
from vitsmith.cost.graphs.weights import State
from vitsmith.layers.turns import TurnTables
from vitsmith.models.config import ViTConfig


def attention(
    g: Graph, config: ViTConfig, name: str, x: Value, *, kept: int | None, turns: TurnTables | None = None
) -> Value:
    """(B, N, D) -> (B, N, D), or (B, kept, D): the output of the first `kept` tokens, which attend to all.

    `turns` turns queries and keys (rotary positions).
    """
    if not (config.block.qk_norm or config.block.attention_norm):
        return _project(g, config, name, _folded(g, config, name, x, kept, turns), kept)
    query, key, value = _split_heads(g, _fused_products(g, config, name, x))
    if config.block.qk_norm:
        width = _head_width(config)
        query = layer_norm(g, f"{name}.query_norm", query, width, config.norm_eps)
        key = layer_norm(g, f"{name}.key_norm", key, width, config.norm_eps)
    if turns is not None:
        query, key = turn(g, query, turns), turn(g, key, turns)
    if kept is not None:
        query = g.slice(query, 0, kept, 2)
    return _project(g, config, name, _scaled_dot_products(g, config, query, key, value), kept)


def _head_width(config: ViTConfig) -> int:
    return config.attention_width // config.heads


def _project(g: Graph, config: ViTConfig, name: str, seen: Value, kept: int | None) -> Value:
    """The values that the heads saw, (B, H, N, d) -> (B, N, D), of all tokens or of the first `kept`."""
    width = config.attention_width
    rows = g.reshape(g.transpose(seen, 0, 2, 1, 3), -1, kept or config.tokens, width)
    if config.block.attention_norm:
        rows = layer_norm(g, f"{name}.norm", rows, width, config.norm_eps)
    return g.linear(rows, f"{name}.out", width, config.width)


# ---------------------------------------------------------------- three products, as `exporters/folding.py` makes them


def _folded(g: Graph, config: ViTConfig, name: str, x: Value, kept: int | None, turns: TurnTables | None) -> Value:
    """Attention with three products in place of one; the factor of the scores is in the weights of the queries."""
    tokens = config.tokens
    first, count = (x, tokens) if kept is None else (g.slice(x, 0, kept, 1), kept)
    query = g.transpose(_heads(g, config, _third(g, config, name, "query", first), count), 0, 2, 1, 3)
    key = _heads(g, config, _third(g, config, name, "key", x), tokens)
    value = g.transpose(_heads(g, config, _third(g, config, name, "value", x), tokens), 0, 2, 1, 3)
    if turns is None:
        key = g.transpose(key, 0, 2, 3, 1)
    else:
        query = turn(g, query, turns, kept=kept)
        key = g.transpose(turn(g, g.transpose(key, 0, 2, 1, 3), turns), 0, 1, 3, 2)
    return g.node("MatMul", g.softmax(g.node("MatMul", query, key)), value)


def _third(g: Graph, config: ViTConfig, name: str, part: str, x: Value) -> Value:
    """Queries, keys or values of all heads, (B, N, t)."""
    third = ("query", "key", "value").index(part)
    factor = np.float32(_head_width(config) ** -0.5 if part == "query" else 1.0)

    def made(what: str) -> Callable[[State], Array]:
        return lambda state: np.split(state[f"{name}.qkv.{what}"], 3)[third] * factor

    width = config.attention_width
    y = g.node("MatMul", x, g.matrix(f"{name}.{part}.weight", config.width, width, made("weight")))
    if not config.block.qkv_bias:
        return y
    return g.add(y, g.weight(f"{name}.{part}.bias", (width,), made("bias")))


def _heads(g: Graph, config: ViTConfig, x: Value, tokens: int) -> Value:
    """(B, N, t) -> (B, N, H, d)."""
    return g.reshape(x, -1, tokens, config.heads, _head_width(config))


# ---------------------------------------------------------------- one product, as torch's own function is exported


def _fused_products(g: Graph, config: ViTConfig, name: str, x: Value) -> Value:
    """Queries, keys and values by one product, (B, N, 3, H, d)."""
    y = g.linear(x, f"{name}.qkv", config.width, 3 * config.attention_width, bias=config.block.qkv_bias)
    return g.reshape(y, -1, config.tokens, 3, config.heads, _head_width(config))


def _split_heads(g: Graph, qkv: Value) -> tuple[Value, Value, Value]:
    """(B, N, 3, H, d) -> three times (B, H, N, d)."""
    parts = g.transpose(qkv, 2, 0, 3, 1, 4)
    zero = g.ints(0)
    query, key, value = (
        g.node("Squeeze", g.node("Slice", parts, g.ints(at), g.ints(at + 1), zero), zero) for at in range(3)
    )
    return query, key, value


def _scaled_dot_products(g: Graph, config: ViTConfig, query: Value, key: Value, value: Value) -> Value:
    """softmax(Q K^T / sqrt(d)) V, with the root of the factor in both Q and K, and shapes found as it runs."""
    shape = g.node("Shape", key, start=0)
    last, ends = g.ints(-1), g.ints(END)
    width = g.node("Slice", shape, last, ends)
    tokens = g.node("Slice", shape, g.ints(-2), last)
    others = g.node("Slice", shape, g.ints(-END - 1), g.ints(-2))
    flat = g.node("Reshape", key, g.concat(last, tokens, width, axis=0), allowzero=0)
    turned = g.transpose(flat, 0, 2, 1)
    turned = g.node("Reshape", turned, g.concat(others, width, tokens, axis=0), allowzero=0)
    factor = g.constant(np.array([_head_width(config) ** -0.25], np.float32))
    scores = g.node("MatMul", g.mul(query, factor), g.mul(turned, factor))
    return g.node("MatMul", g.softmax(scores), value)
