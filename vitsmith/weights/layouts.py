"""The layouts of the same array in JAX and in PyTorch. Each converts both ways, without arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from torch import Tensor

from vitsmith.arrays import Shape


class Layout(Protocol):
    """Both directions return views if possible, so that an array is copied only once, into its final place."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        """Shape of the foreign array for an array of ours of `our_shape`."""

    def ours_from_foreign(self, array: Tensor) -> Tensor: ...

    def foreign_from_ours(self, array: Tensor) -> Tensor: ...


class Same:
    """Biases, LayerNorm, embeddings: no change."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array


class Dense:
    """(in, out) in JAX, (out, in) in PyTorch."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape[::-1]

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.T

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.T


class Scalar:
    """A number without axes in the file, (1,) here: CLIP's logit scale and SigLIP's bias."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return ()

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.reshape(1)

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.reshape(())


@dataclass(frozen=True)
class WithoutLeading:
    """Without our `axes` first axes, which have length 1: a class token as (width,), positions as (tokens, width)."""

    axes: int
    inside: Layout = field(default_factory=Same)
    """The layout but for these axes."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return self.inside.foreign_shape(our_shape)[self.axes :]

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return self.inside.ours_from_foreign(array[(None,) * self.axes])

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return self.inside.foreign_from_ours(array)[(0,) * self.axes]


class Conv:
    """(height, width, in, out) in JAX, (out, in, height, width) in PyTorch."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        out_width, in_width, height, width = our_shape
        return height, width, in_width, out_width

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.permute(3, 2, 0, 1)

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.permute(2, 3, 1, 0)


class GroupNormScale:
    """(1, 1, 1, channels) in the released files, (channels,) in PyTorch."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return 1, 1, 1, *our_shape

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.reshape(-1)

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.reshape(1, 1, 1, -1)


@dataclass(frozen=True)
class HeadsIn:
    """Query, key or value kernel: (width, heads, width / heads) in JAX, (width, width) in PyTorch."""

    heads: int

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape[1], self.heads, our_shape[0] // self.heads

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.reshape(array.shape[0], -1).T

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.T.reshape(self.foreign_shape(tuple(array.shape)))


@dataclass(frozen=True)
class HeadsBias:
    """Query, key or value bias: (heads, width / heads) in JAX, (width,) in PyTorch."""

    heads: int

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return self.heads, our_shape[0] // self.heads

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.reshape(-1)

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.reshape(self.foreign_shape(tuple(array.shape)))


@dataclass(frozen=True)
class HeadsOut:
    """Output kernel of attention: (heads, width / heads, width) in JAX, (width, width) in PyTorch."""

    heads: int

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return self.heads, our_shape[1] // self.heads, our_shape[0]

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array.reshape(-1, array.shape[-1]).T

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array.T.reshape(self.foreign_shape(tuple(array.shape)))


@dataclass(frozen=True)
class Slot:
    """Where one foreign array goes: the whole of a parameter, or one of `parts` equal slices of its first axis."""

    parameter: str
    layout: Layout
    part: int = 0
    parts: int = 1
    added: bool = False
    """Whether the array is added to what an earlier one fills."""

    def part_shape(self, parameter_shape: Shape) -> Shape:
        return parameter_shape[0] // self.parts, *parameter_shape[1:]

    def foreign_shape(self, parameter_shape: Shape) -> Shape:
        """Shape of the foreign array that belongs here."""
        return self.layout.foreign_shape(self.part_shape(parameter_shape))


def within(theirs: str, ours: str, slots: Iterable[tuple[str, Slot]]) -> Iterator[tuple[str, Slot]]:
    """The slots of a part of a model, as those of the whole: both names get what stands before them there."""
    for name, slot in slots:
        yield f"{theirs}{name}", replace(slot, parameter=f"{ours}{slot.parameter}")
