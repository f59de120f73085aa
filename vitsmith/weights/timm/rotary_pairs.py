"""The channels of queries and keys that turn together: neighbours in most of timm's models, half a head apart here."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitsmith.arrays import Shape


@dataclass(frozen=True)
class NeighbourPairs:
    """Weight or bias of queries or keys, (heads * d, ...): pairs 2i and 2i + 1 there, i and i + d / 2 here."""

    heads: int
    packed: bool = False
    """Queries, keys and values in one array, whose last third, the values, is the same here and there."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return self._regrouped(array, (-1, 2))

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return self._regrouped(array, (2, -1))

    def _regrouped(self, array: Tensor, pairs: tuple[int, int]) -> Tensor:
        """Swaps the two axes, `pairs`, into which a head's channels are cut."""
        parts = array.chunk(3) if self.packed else (array,)
        turned = [part.reshape(self.heads, *pairs, *part.shape[1:]).transpose(1, 2) for part in parts[:2]]
        return torch.cat([*(part.reshape(-1, *array.shape[1:]) for part in turned), *parts[2:]])
