"""Stand-ins for the arrays of models of transformers, and images for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tests.reference import fill


def stand_in(name: str, shape: Sequence[int]) -> Tensor:
    """Random values decided by the name: matrices keep variance, scales of norms are about 1, all else is about 0.3."""
    noise = torch.from_numpy(fill.uniform(name, tuple(shape)))
    if len(shape) in (2, 4) and name.endswith("weight"):
        return noise * 1.5 * noise[0].numel() ** -0.5
    return 0.3 * noise + ("norm" in name and name.endswith("weight"))


def images_of(height: int, width: int) -> Tensor:
    """Two images, (2, 3, height, width)."""
    return torch.from_numpy(fill.uniform(f"images {height}x{width}", (2, 3, height, width)))


def state_of(arrays: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    return {name: stand_in(name, shape) for name, shape in arrays.items()}
