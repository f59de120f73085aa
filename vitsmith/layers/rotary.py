"""Rotary positions of patches, "RoFormer", arXiv 2104.09864, on two axes.

N tokens, of which the last rows * columns are patches; d head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from vitsmith.arrays import Array

F = TypeVar("F", bound=Callable[..., Any])


class Turns(NamedTuple):
    """Cosines and sines, float32 (N, d) each. Tokens before the patches have cosine 1 and sine 0."""

    cosines: Tensor
    sines: Tensor


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


def _constant(function: F) -> F:
    """As `torch.compiler.assume_constant_result`, which imports torch._dynamo, and so slows every start."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Rotary:
    """The turns of a grid of (rows, columns) patches behind `prefix` tokens, computed once."""

    def __init__(self, rule: RotaryRule, head_width: int, grid: tuple[int, int], prefix: int) -> None:
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
        self._tables = np.cos(angles), np.sin(angles)
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


def turn(x: Tensor, turns: Turns) -> Tensor:
    """Turns each head's pairs of channels: (B, H, N, d) -> the same. A pair is channel i and channel i + d / 2."""
    half = x.shape[-1] // 2  # slices: a program of ExecuTorch whose tensors are chunked is bound to one batch size
    first, second = x[..., :half], x[..., half:]
    turned = x * turns.cosines + torch.cat([-second, first], dim=-1) * turns.sines
    return turned if x.dtype == torch.float32 else turned.to(x.dtype)
