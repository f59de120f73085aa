"""Rotary positions of patches, "RoFormer", arXiv 2104.09864, on two axes.

N tokens, of which the last rows * columns are patches; d head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Turns(NamedTuple):
    """Cosines and sines, float32 (N, d) each. Tokens before the patches have cosine 1 and sine 0."""

    cosines: Tensor
    sines: Tensor


@dataclass(frozen=True)
class Rotary:
    """Computes the turns of a grid; the fields are those of `RotaryConfig`, where they are explained.

    Nothing is kept, so that the result is on the device of the input; exporters fold it into constants.
    """

    head_width: int
    grid: tuple[int, int]
    prefix: int
    base: float
    places: Literal["centred", "index"]
    first: Literal["rows", "columns"]
    start: int
    reference: tuple[int, int] | None
    bfloat16: bool

    def turns(self, device: torch.device) -> Turns:
        """The turns of all tokens, the patches row by row."""
        quarter = self.head_width // 4
        periods = self.base ** (torch.arange(quarter, dtype=torch.float32, device=device) / quarter)
        if self.bfloat16:
            periods = periods.bfloat16().float()
        rows, columns = (self._angles(axis, device)[:, None] / periods for axis in (0, 1))
        rows = rows[:, None].expand(*self.grid, quarter)
        columns = columns[None].expand(*self.grid, quarter)
        both = (rows, columns) if self.first == "rows" else (columns, rows)
        angles = torch.cat([*both, *both], dim=-1).flatten(0, 1)  # (patches, d)
        before = angles.new_zeros(self.prefix, self.head_width)
        angles = torch.cat([before, angles])
        return Turns(angles.cos(), angles.sin())

    def _angles(self, axis: int, device: torch.device) -> Tensor:
        """The place of each row or column on its axis, (rows,) or (columns,)."""
        count = self.grid[axis]
        index = torch.arange(count, dtype=torch.float32, device=device)
        if self.places == "centred":
            return 2 * math.pi * ((index + 0.5) / count * 2 - 1)
        places = index + self.start
        return places if self.reference is None else places / count * self.reference[axis]


def turn(x: Tensor, turns: Turns) -> Tensor:
    """Turns each head's pairs of channels: (B, H, N, d) -> the same. A pair is channel i and channel i + d / 2."""
    first, second = x.chunk(2, dim=-1)
    return (x * turns.cosines + torch.cat([-second, first], dim=-1) * turns.sines).to(x.dtype)
