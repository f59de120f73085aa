"""Rotary positions of patches, "RoFormer", arXiv 2104.09864, on two axes.

N tokens, of which the last rows * columns are patches; d head width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from vitsmith.layers.turns import RotaryRule, turn_tables

F = TypeVar("F", bound=Callable[..., Any])


class Turns(NamedTuple):
    """The tables of `turns.py` as tensors: cosines and sines, float32 (N, d) each."""

    cosines: Tensor
    sines: Tensor


def _constant(function: F) -> F:
    """As `torch.compiler.assume_constant_result`, which imports torch._dynamo, and so slows every start."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Rotary:
    """The turns of a grid of (rows, columns) patches behind `prefix` tokens, computed once."""

    def __init__(self, rule: RotaryRule, head_width: int, grid: tuple[int, int], prefix: int) -> None:
        self._tables = turn_tables(rule, head_width, grid, prefix)
        """NumPy's, as a model may be built where tensors have no values."""
        self._on: dict[torch.device, Turns] = {}

    def turns(self, device: torch.device) -> Turns:
        """The turns of all tokens, the patches row by row. Exporters take them as constants."""
        if torch.compiler.is_dynamo_compiling():
            return Turns(self._cosines().to(device), self._sines().to(device))
        if device.type == "cpu" or torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
            return Turns(*(torch.from_numpy(table).to(device) for table in self._tables))
        if device not in self._on:
            with torch.inference_mode(False):  # or no gradient could pass them later
                self._on[device] = Turns(*(torch.from_numpy(table).to(device) for table in self._tables))
        return self._on[device]

    # torch.compile calls these once: in inference mode it refuses a tensor that it makes of an array itself (2.13).
    @_constant
    def _cosines(self) -> Tensor:
        return torch.from_numpy(self._tables[0])

    @_constant
    def _sines(self) -> Tensor:
        return torch.from_numpy(self._tables[1])


def turn(x: Tensor, turns: Turns) -> Tensor:
    """Turns each head's pairs of channels: (B, H, N, d) -> the same. A pair is channel i and channel i + d / 2."""
    half = x.shape[-1] // 2  # slices: a program of ExecuTorch whose tensors are chunked is bound to one batch size
    first, second = x[..., :half], x[..., half:]
    turned = x * turns.cosines + torch.cat([-second, first], dim=-1) * turns.sines
    return turned if x.dtype == torch.float32 else turned.to(x.dtype)
