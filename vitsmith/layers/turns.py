"""The angles of rotary positions, "RoFormer", arXiv 2104.09864, on two axes, as tables. No torch here.

N tokens, of which the last rows * columns are patches; d head width.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, Protocol

import numpy as np

from vitsmith.arrays import Array


class TurnTables(NamedTuple):
    """Cosines and sines, float32 (N, d) each. Tokens before the patches have cosine 1 and sine 0."""

    cosines: Array
    sines: Array


class RotaryRule(Protocol):
    """How places become angles: the fields of `models.parts.RotaryConfig`, where they are explained."""

    @property
    def base(self) -> float: ...
    @property
    def places(self) -> Literal["centred", "index"]: ...
    @property
    def first(self) -> Literal["rows", "columns"]: ...
    @property
    def start(self) -> int: ...
    @property
    def reference(self) -> tuple[int, int] | None: ...
    @property
    def bfloat16(self) -> bool: ...


def turn_tables(rule: RotaryRule, head_width: int, grid: tuple[int, int], prefix: int) -> TurnTables:
    """The turns of a grid of (rows, columns) patches, row by row, behind `prefix` tokens."""
    quarter = head_width // 4
    periods = np.float32(rule.base) ** (np.arange(quarter, dtype=np.float32) / np.float32(quarter))
    if rule.bfloat16:
        periods = _rounded_to_bfloat16(periods)
    row, column = (_places(rule, axis, side) for axis, side in enumerate(grid))
    rows = np.broadcast_to((row[:, None] / periods)[:, None], (*grid, quarter))
    columns = np.broadcast_to((column[:, None] / periods)[None], (*grid, quarter))
    both = (rows, columns) if rule.first == "rows" else (columns, rows)
    angles = np.concatenate([*both, *both], axis=-1).reshape(-1, head_width)  # (patches, d)
    angles = np.concatenate([np.zeros((prefix, head_width), np.float32), angles])
    return TurnTables(np.cos(angles), np.sin(angles))


def _places(rule: RotaryRule, axis: int, side: int) -> Array:
    """The places of the rows (axis 0) or columns on their axis, float32 (side,)."""
    index = np.arange(side, dtype=np.float32)
    if rule.places == "centred":
        return np.float32(2 * math.pi) * ((index + np.float32(0.5)) / np.float32(side) * 2 - 1)
    places = index + np.float32(rule.start)
    return places if rule.reference is None else places / np.float32(side) * np.float32(rule.reference[axis])


def _rounded_to_bfloat16(values: Array) -> Array:
    """The nearest numbers with 8 bits of mantissa, of equally near ones the even one, as float32."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)
