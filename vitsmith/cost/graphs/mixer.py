"""MLP-Mixers as the exporter writes them: "An all-MLP Architecture for Vision", arXiv 2105.01601.

B batch, N patches, D width, K classes
"""

from __future__ import annotations

from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.cost.graphs.mlp import mlp
from vitsmith.cost.graphs.norms import layer_norm
from vitsmith.cost.graphs.onnx_bytes import OnnxPort
from vitsmith.cost.graphs.patches import embed_patches
from vitsmith.models.config import MixerConfig


def mixer_graph(config: MixerConfig) -> Graph:
    """Images (B, 3, height, width) -> logits (B, K), or the mean token (B, D) for classes=0."""
    g = Graph(input=OnnxPort("images", ("batch", 3, *config.image_size)))
    x = embed_patches(g, config, g.input.name, 3)
    for index in range(config.depth):
        x = _block(g, config, f"blocks.{index}", x)
    seen = g.mean(layer_norm(g, "norm", x, config.width, config.norm_eps), 1)
    if config.classes:
        seen = g.gemm(seen, "head", config.width, config.classes)
    g.output = OnnxPort(seen, ("batch", config.classes or config.width))
    return g


def _block(g: Graph, config: MixerConfig, name: str, x: Value) -> Value:
    """An MLP across the tokens of each channel, then one across the channels of each token, on (B, N, D)."""
    width, eps, gelu = config.width, config.norm_eps, config.gelu
    turned = g.transpose(layer_norm(g, f"{name}.norm1", x, width, eps), 0, 2, 1)
    mixed = mlp(g, f"{name}.token_mixing", turned, config.tokens, config.tokens_mlp_width, gelu=gelu)
    x = g.add(x, g.transpose(mixed, 0, 2, 1))
    y = layer_norm(g, f"{name}.norm2", x, width, eps)
    return g.add(x, mlp(g, f"{name}.channel_mixing", y, width, config.channels_mlp_width, gelu=gelu))
