"""Arrays that hold several arrays of a model, seen as if each lay in the file by itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.weights.fill import ArrayFile


@dataclass(frozen=True)
class Piece:
    """One of `count` equal pieces of the first axis of an array.

    A piece of a stack is one of its entries, without that axis: blocks in one array are cut so. Other pieces keep it:
    query, key and value in one matrix are cut so.
    """

    array: str
    index: int
    count: int
    stacked: bool = False

    def shape(self, whole: Shape) -> Shape:
        """The shape of the piece. Raises WeightsError for an array that cannot be cut like this."""
        length = whole[0] if whole else 0
        if length == 0 or length % self.count or (self.stacked and length != self.count):
            raise WeightsError(f"array {self.array!r} of shape {whole} does not hold {self.count} equal pieces")
        return whole[1:] if self.stacked else (length // self.count, *whole[1:])

    def of(self, whole: Tensor) -> Tensor:
        """The piece of the array; a view."""
        return whole[self.index] if self.stacked else whole.chunk(self.count)[self.index]


class DividedFile:
    """A file of arrays some of which are replaced by their pieces, which have names of their own.

    The array last read is kept: take all pieces of one array before those of the next, as `by_array` orders them.
    Raises WeightsError, naming the array, for one that cannot be cut as wanted.
    """

    def __init__(self, file: ArrayFile, pieces: Mapping[str, Piece]) -> None:
        self.path = file.path
        self._file, self._pieces = file, pieces
        self._last: tuple[str, Tensor] | None = None
        cut = {piece.array for piece in pieces.values()}
        self.shapes = {name: shape for name, shape in file.shapes.items() if name not in cut}
        try:
            self.shapes |= {
                name: piece.shape(file.shapes[piece.array])
                for name, piece in pieces.items()
                if piece.array in file.shapes
            }
        except WeightsError as error:
            raise WeightsError(f"{file.path}: {error}") from None

    def read(self, name: str) -> Tensor:
        """One array, or a piece of one, as float32."""
        piece = self._pieces.get(name)
        if piece is None:
            return self._file.read(name)
        if self._last is None or self._last[0] != piece.array:
            self._last = None  # before the next is read: one at a time
            self._last = piece.array, self._file.read(piece.array)
        return piece.of(self._last[1])


S = TypeVar("S")


def by_array(slots: Mapping[str, S], pieces: Mapping[str, Piece]) -> dict[str, S]:
    """The slots in their order, but with all pieces of an array where its first is."""
    whole = {name: pieces[name].array if name in pieces else name for name in slots}
    first = {array: at for at, array in reversed([*enumerate(whole.values())])}
    return {name: slots[name] for name in sorted(slots, key=lambda name: first[whole[name]])}
