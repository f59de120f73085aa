"""Rotary positions, arXiv 2104.09864, as the exporter writes them: its tables are constants.

B batch, H heads, N tokens, d head width
"""

from __future__ import annotations

from vitsmith.cost.graphs.graph import END, Graph, Value
from vitsmith.layers.turns import TurnTables, turn_tables
from vitsmith.models.config import ViTConfig


def turns_of(config: ViTConfig) -> TurnTables | None:
    """The turns of all tokens, or None for a model without rotary positions."""
    rotary = config.position_embedding.rotary
    if rotary is None:
        return None
    return turn_tables(rotary, config.attention_width // config.heads, config.grid, config.prefix)


def turn(g: Graph, x: Value, turns: TurnTables, *, kept: int | None = None) -> Value:
    """Turns each head's pairs of channels, (B, H, N, d) -> the same; `x` has all tokens, or the first `kept`."""
    cosines, sines = (g.constant(table[:kept]) for table in turns)
    half = turns.cosines.shape[1] // 2
    first, second = g.slice(x, 0, half, 3), g.slice(x, half, END, 3)
    crossed = g.concat(g.node("Neg", second), first, axis=-1)
    return g.add(g.mul(x, cosines), g.mul(crossed, sines))
