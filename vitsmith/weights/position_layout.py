"""Learned positions of another image size: resized on the way in, by the rule of those who publish the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.layers.positions import resize_positions
from vitsmith.models.config import ViTConfig, show_size
from vitsmith.models.parts import PositionResize

_RULES: dict[PositionResize, str] = {
    "zoom": "bilinear, corners aligned",
    "bicubic": "bicubic with antialiasing",
    "bicubic_plain": "bicubic without antialiasing",
    "bicubic_offset": "bicubic without antialiasing, by the factor (new + 0.1) / old",
    "bilinear_plain": "bilinear without antialiasing",
}


@dataclass(frozen=True)
class ResizedPositions:
    """Position embeddings (1, prefix + rows * columns, width) of the grid `old` in the file, of `new` in our model.

    It reads only: no array of the new size says what the old was.
    """

    old: tuple[int, int]
    new: tuple[int, int]
    prefix: int
    method: PositionResize

    @classmethod
    def between(cls, stored: ViTConfig, wanted: ViTConfig, method: PositionResize) -> Self:
        return cls(stored.grid, wanted.grid, stored.prefix_positions, method)

    @property
    def told(self) -> str:
        """The note for the user."""
        return (
            f"positions of {show_size(self.old)} patches were resized to {show_size(self.new)}, {_RULES[self.method]}, "
            "as their publisher's code does"
        )

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape[0], self.prefix + self.old[0] * self.old[1], our_shape[2]

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return resize_positions(array, self.old, self.new, prefix=self.prefix, method=self.method)

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        raise WeightsError("positions that were resized when they were loaded cannot be written in the size they had")


def resizing_note(stored: ViTConfig, wanted: ViTConfig, method: PositionResize) -> tuple[str, ...]:
    """A note for the user where positions are resized."""
    if stored.grid == wanted.grid or stored.position_embedding.learned == "none":
        return ()
    return (ResizedPositions.between(stored, wanted, method).told,)
