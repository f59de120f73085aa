"""Rotary positions of patches, "RoFormer", arXiv 2104.09864, on two axes.

N tokens, of which the last rows * columns are patches; d head width.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor


class Turns(NamedTuple):
    """Cosines and sines, float32 (N, d) each. Tokens before the patches have cosine 1 and sine 0."""

    cosines: Tensor
    sines: Tensor


class Rotary:
    """The turns of a grid, computed once. The arguments are fields of `RotaryConfig`, where they are explained."""

    def __init__(
        self,
        head_width: int,
        grid: tuple[int, int],
        prefix: int,
        *,
        base: float,
        places: Literal["centred", "index"],
        first: Literal["rows", "columns"],
        start: int,
        reference: tuple[int, int] | None,
        bfloat16: bool,
    ) -> None:
        quarter = head_width // 4
        periods = base ** (torch.arange(quarter, dtype=torch.float32, device="cpu") / quarter)
        if bfloat16:
            periods = periods.bfloat16().float()
        row, column = (
            _places(side, places, start, reference[axis] if reference else None) for axis, side in enumerate(grid)
        )
        rows = (row[:, None] / periods)[:, None].expand(*grid, quarter)
        columns = (column[:, None] / periods)[None].expand(*grid, quarter)
        both = (rows, columns) if first == "rows" else (columns, rows)
        angles = torch.cat([*both, *both], dim=-1).flatten(0, 1)  # (patches, d)
        angles = torch.cat([angles.new_zeros(prefix, head_width), angles])
        self._on: dict[torch.device, Turns] = {angles.device: Turns(angles.cos(), angles.sin())}

    def turns(self, device: torch.device) -> Turns:
        """The turns of all tokens, the patches row by row, kept for each device. Exporters take them as constants."""
        if device in self._on:
            return self._on[device]
        moved = Turns(*(table.to(device) for table in self._on[torch.device("cpu")]))
        if type(moved.cosines) is Tensor and not torch.compiler.is_compiling():
            self._on[device] = moved
        return moved


def _places(side: int, kind: Literal["centred", "index"], start: int, reference: int | None) -> Tensor:
    """The places of the rows or columns on their axis, float32 (side,)."""
    index = torch.arange(side, dtype=torch.float32, device="cpu")
    if kind == "centred":
        return 2 * math.pi * ((index + 0.5) / side * 2 - 1)
    places = index + start
    return places if reference is None else places / side * reference


def turn(x: Tensor, turns: Turns) -> Tensor:
    """Turns each head's pairs of channels: (B, H, N, d) -> the same. A pair is channel i and channel i + d / 2."""
    half = x.shape[-1] // 2  # slices: a program of ExecuTorch whose tensors are chunked is bound to one batch size
    first, second = x[..., :half], x[..., half:]
    turned = x * turns.cosines + torch.cat([-second, first], dim=-1) * turns.sines
    return turned if x.dtype == torch.float32 else turned.to(x.dtype)
