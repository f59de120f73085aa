"""The numbers of a graph's weights: those of a torch model, or random ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np

from vitsmith.arrays import Array, Shape

State = Mapping[str, Array]
"""Weights by their names in a torch model's state dict, float32."""

LARGEST = 4.0
"""Standard deviations of the largest random number."""


@dataclass(frozen=True)
class Weight:
    """A constant of a graph that depends on a model's weights; its numbers are made when they are needed."""

    shape: Shape
    made: Callable[[State], Array]
    """Computes it from a model's weights."""
    centre: float = 0.0
    """Random numbers scatter around it."""
    spread: float = 0.02
    """Standard deviation of random numbers."""
    dtype: str = "float32"
    """Or 'int8', whose random numbers are rounded."""


class ModelNumbers:
    """Weights with the numbers of a model, for tests: they give what the model gives."""

    def __init__(self, state: State) -> None:
        self._state = state

    def pieces(self, weight: Weight) -> Sequence[Array]:
        """The numbers of a weight, in C order."""
        values = np.ascontiguousarray(weight.made(self._state), weight.dtype)
        if values.shape != weight.shape:
            raise ValueError(f"a weight of shape {weight.shape} was made as {values.shape}")
        return [values]


class RandomNumbers:
    """Weights with random numbers. They come from one buffer, again and again: to draw each would take seconds.

    Each weight begins at another place of the buffer, so that no two are equal, which engines may notice.
    """

    SIZE = 1_000_003
    """A prime, so that the rows of a matrix are not repeats of each other."""

    def __init__(self, seed: int = 0) -> None:
        self._seed, self._at = seed, 0
        self._scaled: dict[tuple[float, float, str], Array] = {}

    def pieces(self, weight: Weight) -> Sequence[Array]:
        """The numbers of a weight, in C order."""
        buffer = self._buffer(weight)
        pieces, left = [], prod(weight.shape)
        while left:
            piece = buffer[self._at : self._at + left]
            pieces.append(piece)
            left -= len(piece)
            self._at = (self._at + len(piece)) % self.SIZE
        return pieces

    def _buffer(self, weight: Weight) -> Array:
        """Normal numbers with a weight's centre and spread."""
        key = (weight.centre, weight.spread, weight.dtype)
        if key not in self._scaled:
            scaled = self._normal * np.float32(weight.spread) + np.float32(weight.centre)
            self._scaled[key] = scaled.round().astype(weight.dtype) if weight.dtype == "int8" else scaled
        return self._scaled[key]

    @cached_property
    def _normal(self) -> Array:
        normal = np.random.default_rng(self._seed).standard_normal(self.SIZE, np.float32)
        return normal.clip(-LARGEST, LARGEST)
