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


def tokens_of(vocabulary: int, length: int, end: int) -> Tensor:
    """Three texts of 2 tokens, about half and all of `length` up to the end token, (3, length); then other tokens."""
    noise = torch.from_numpy(fill.uniform(f"tokens {vocabulary}x{length}", (3, length)))
    tokens = ((noise + noise.abs().max()) * 1000).long() % (vocabulary - 4) + 3
    tokens[tokens == end] = 3
    for row, used in zip(tokens, (2, length // 2, length), strict=True):
        row[used - 1] = end
    return tokens


def state_of(arrays: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    return {name: stand_in(name, shape) for name, shape in arrays.items()}
