"""Poolings of tokens as the exporter writes them.

B batch, N tokens, D width, H heads, d head width
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.graphs.graph import END, Graph, Value
from vitsmith.cost.graphs.mlp import activation
from vitsmith.cost.graphs.norms import layer_norm
from vitsmith.cost.graphs.weights import State
from vitsmith.models.config import ViTConfig
from vitsmith.models.parts import AttentionPoolConfig


def kept_tokens(config: ViTConfig) -> int | None:
    """How many tokens the last block computes, as the head needs no others; None: all."""
    return 1 + config.distillation_token if config.pooling == "token" else None


def pool(g: Graph, config: ViTConfig, x: Value) -> Value:
    """Tokens (B, N, D) -> (B, pooled width); unchanged for the unpooled kinds and the two tokens of two heads."""
    if config.attention_pool is not None:
        return _attention_pool(g, config, config.attention_pool, x)
    if config.pooling == "token":
        return x if config.distillation_token else g.select(x, 0, 1)
    if config.pooling == "gap":
        return _mean(g, config, x)
    if config.pooling == "token_and_gap":
        return g.concat(g.select(x, 0, 1), _mean(g, config, x), axis=-1)
    return x


def _mean(g: Graph, config: ViTConfig, x: Value) -> Value:
    """The mean of the patches, (B, D)."""
    return g.mean(g.slice(x, config.prefix, END, 1) if config.prefix else x, 1)


# ---------------------------------------------------------------- a probe that attends, arXiv 2106.04560 section 3.4


def _attention_pool(g: Graph, config: ViTConfig, part: AttentionPoolConfig, x: Value) -> Value:
    """(B, N, D) -> (B, D), without keys and values of all tokens: see `exporters/folding.py`."""
    name, width = "attention_pool", config.width
    heads, head_width = part.heads, width // part.heads

    def probe(state: State) -> _Probe:
        return _probe(state, name, heads)

    scores = g.matrix(f"{name}.scores.weight", width, heads, lambda state: probe(state).scores)
    values = g.weight(f"{name}.values", (heads, width, head_width), lambda state: probe(state).values)
    value_bias = g.weight(f"{name}.value_bias", (width,), lambda state: probe(state).value_bias)
    weights = g.softmax(g.transpose(g.node("MatMul", x, scores), 0, 2, 1))
    mixed = g.node("Unsqueeze", g.node("MatMul", weights, x), g.ints(2))  # (B, H, 1, D)
    seen = g.add(g.reshape(g.node("MatMul", mixed, values), -1, width), value_bias)
    seen = g.gemm(seen, f"{name}.out", width, width)
    y = layer_norm(g, f"{name}.norm", seen, width, config.norm_eps)
    hidden = activation(g, g.gemm(y, f"{name}.mlp.widen", width, part.mlp_width), config.gelu)
    return g.add(seen, g.gemm(hidden, f"{name}.mlp.narrow", part.mlp_width, width))


class _Probe(NamedTuple):
    """What follows from a probe and its weights alone."""

    scores: Array
    """(H, D)"""
    values: Array
    """(H, D, d)"""
    value_bias: Array
    """(D,)"""


def _probe(state: State, name: str, heads: int) -> _Probe:
    query = state[f"{name}.probe"][0, 0] @ state[f"{name}.query.weight"].T + state[f"{name}.query.bias"]
    query = query.reshape(heads, -1)
    key, value = state[f"{name}.key_value.weight"].reshape(2, heads, query.shape[1], -1)  # each (H, d, D)
    scores = np.einsum("hd,hdw->hw", query * np.float32(query.shape[1] ** -0.5), key)
    return _Probe(scores, value.transpose(0, 2, 1), np.split(state[f"{name}.key_value.bias"], 2)[1])
