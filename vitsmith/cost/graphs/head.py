"""From pooled tokens to logits, as the exporter writes it.

B batch, N tokens, K classes
"""

from __future__ import annotations

from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.cost.graphs.onnx_bytes import OnnxPort, Size
from vitsmith.models.config import ViTConfig


def head(g: Graph, config: ViTConfig, pooled: Value) -> OnnxPort:
    """(B, pooled width) -> logits (B, K), or features for classes=0; (B, N, ...) for the unpooled kinds."""
    unpooled = config.pooling in ("unpooled", "token_unpooled")
    seen = _seen_by_head(g, config, pooled, tokens=unpooled or config.distillation_token)
    if config.distillation_token:
        seen = _mean_of_two(g, config, seen)
    elif config.classes:
        seen = _linear(g, seen, "head", config.feature_width, config.classes, tokens=unpooled, bias=config.head_bias)
    sizes: tuple[Size, ...] = (config.tokens,) if unpooled else ()
    return OnnxPort(seen, ("batch", *sizes, config.classes or config.feature_width))


def _seen_by_head(g: Graph, config: ViTConfig, x: Value, *, tokens: bool) -> Value:
    """The tanh layer of the first release on ImageNet-21k, and features of length 1, where the model has them."""
    width = config.pooled_width
    if config.representation:
        x = g.node("Tanh", _linear(g, x, "representation.0", width, config.representation, tokens=tokens))
        width = config.representation
    if config.unit is None:
        return x
    if config.unit.width:
        x = _linear(g, x, "unit.projection", width, config.unit.width, tokens=tokens, bias=config.unit.bias)
    length = g.node("ReduceL2", x, g.ints(-1), keepdims=1, noop_with_empty_axes=0)  # the exporter drops the 1e-8
    return g.node("Div", x, length)


def _mean_of_two(g: Graph, config: ViTConfig, seen: Value) -> Value:
    """The mean of what the heads of the class token and of the distillation token give, (B, 2, width) -> (B, K)."""
    one = g.ints(1)
    both = []
    for at, name in enumerate(("head", "distillation_head")):
        logits = g.select(seen, at, 1)
        if config.classes:
            logits = g.gemm(logits, name, config.feature_width, config.classes, bias=config.head_bias)
        both.append(g.node("Unsqueeze", logits, one))
    return g.mean(g.concat(*both, axis=1), 1)


def _linear(g: Graph, x: Value, name: str, inputs: int, outputs: int, *, tokens: bool, bias: bool = True) -> Value:
    """torch's Linear of (B, inputs), or of several `tokens`, (B, N, inputs)."""
    return (g.linear if tokens else g.gemm)(x, name, inputs, outputs, bias=bias)
