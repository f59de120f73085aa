"""A cache of a teacher's answers. Its key is the image's contents, so the order of the images does not matter."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

_MOST_BYTES = 2**31  # of remembered logits: 1,000 classes and half a million images

Key = tuple[int, int]


class Answers:
    """Logits by image. An image is known by two 64-bit hashes of the bits of its float32 values.

    Each hash is sum(weight * value) modulo 2^64 with random odd weights (multilinear hashing, arXiv 1202.4961): cheap
    on any device, without a copy to the processor, and equal in whatever order it is summed.
    """

    def __init__(self, size: tuple[int, int], device: torch.device | str = "cpu") -> None:
        generator = torch.Generator().manual_seed(0)
        low, high = -(2**63), 2**63 - 1
        weights = torch.randint(low, high, (2, 3 * math.prod(size)), generator=generator)
        self._weights = (weights | 1).to(device)
        self._known: dict[Key, Tensor] = {}
        self._asked = self._hits = self._bytes = 0

    @property
    def share(self) -> float:
        """The share of the images asked for whose answer was in the cache."""
        return self._hits / self._asked if self._asked else 0.0

    def get(self, images: Tensor, answer: Callable[[Tensor], Tensor]) -> Tensor:
        """Logits (B, K) of float32 images (B, 3, h, w); `answer` computes those not seen before."""
        keys = self._keys(images)
        first = {key: row for row, key in reversed(list(enumerate(keys)))}
        rows = sorted(row for key, row in first.items() if key not in self._known)
        found = {key: self._known[key] for key in first if key in self._known}
        if rows:
            for row, logits in zip(rows, answer(images[rows]).unbind(0), strict=True):
                found[keys[row]] = logits
                self._remember(keys[row], logits)
        self._asked += len(keys)
        self._hits += len(keys) - len(rows)
        return torch.stack([found[key] for key in keys])

    def _keys(self, images: Tensor) -> list[Key]:
        bits = images.contiguous().view(torch.int32).flatten(1).long()
        hashes = torch.stack([(bits * weights).sum(dim=1) for weights in self._weights], dim=1)
        return [(first, second) for first, second in hashes.tolist()]

    def _remember(self, key: Key, logits: Tensor) -> None:
        size = logits.numel() * logits.element_size()
        if self._bytes + size <= _MOST_BYTES:
            self._known[key] = logits.clone()  # a view would keep the whole batch
            self._bytes += size
