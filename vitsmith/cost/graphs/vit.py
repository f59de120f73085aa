"""Vision Transformers as the exporter writes them: "An Image is Worth 16x16 Words", arXiv 2010.11929.

B batch, N tokens, D width, K classes
"""

from __future__ import annotations

from vitsmith.cost.cost import UnpredictedError
from vitsmith.cost.graphs.block import block
from vitsmith.cost.graphs.graph import Graph, Value
from vitsmith.cost.graphs.head import head
from vitsmith.cost.graphs.norms import norm
from vitsmith.cost.graphs.onnx_bytes import OnnxPort
from vitsmith.cost.graphs.pooling import kept_tokens, pool
from vitsmith.cost.graphs.rotary import turns_of
from vitsmith.cost.graphs.tokens import embed
from vitsmith.models.config import ViTConfig


def vit_graph(config: ViTConfig) -> Graph:
    """Images (B, 3, height, width) -> what the model gives. Raises UnpredictedError for parts that are not covered."""
    _check(config)
    g = Graph(input=OnnxPort("images", ("batch", 3, *config.image_size)))
    g.output = head(g, config, encode(g, config))
    return g


def encode(g: Graph, config: ViTConfig) -> Value:
    """Images -> pooled tokens. The last block computes only the tokens that are pooled."""
    x = embed(g, config)
    if config.norm_before:
        x = norm(g, config, "norm_before", x)
    turns = turns_of(config)
    for index in range(config.depth):
        kept = kept_tokens(config) if index == config.depth - 1 else None
        x = block(g, config, index, x, kept=kept, turns=turns)
    if config.norm_after_pooling:
        return norm(g, config, "norm", pool(g, config, x), axis=1)
    return pool(g, config, norm(g, config, "norm", x) if config.final_norm else x)


def _check(config: ViTConfig) -> None:
    parts = {"merge": config.merge}
    missing = [name for name, there in parts.items() if there]
    if missing:
        raise UnpredictedError(f"no graph can be made of a model with {', '.join(missing)}")
