"""Arrays that hold several arrays of a model: `weights/containers/divided.py`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from vitsmith.errors import WeightsError
from vitsmith.weights.containers.divided import DividedFile, Piece, by_array


class _Memory:
    """Arrays in memory, which counts how often each is read."""

    path = Path("model.safetensors")

    def __init__(self, arrays: dict[str, Tensor]) -> None:
        self.arrays, self.shapes = arrays, {name: tuple(array.shape) for name, array in arrays.items()}
        self.reads: list[str] = []

    def read(self, name: str) -> Tensor:
        self.reads.append(name)
        return self.arrays[name]


def test_blocks_in_a_stack_and_matrices_in_one_have_their_own_names() -> None:
    file = _Memory({"blocks": torch.arange(12.0).reshape(3, 4), "qkv": torch.arange(6.0), "norm": torch.ones(2)})
    pieces = {f"block{at}": Piece("blocks", at, 3, stacked=True) for at in range(3)}
    pieces |= {name: Piece("qkv", at, 3) for at, name in enumerate("qkv")}
    divided = DividedFile(file, pieces)
    assert divided.shapes == {"norm": (2,), "q": (2,), "k": (2,), "v": (2,)} | {f"block{at}": (4,) for at in range(3)}
    assert divided.read("block1").tolist() == [4, 5, 6, 7]
    assert divided.read("v").tolist() == [4, 5]
    assert divided.read("norm").tolist() == [1, 1]


def test_each_array_is_read_once_in_the_order_of_arrays() -> None:
    file = _Memory({"a": torch.zeros(2, 2), "b": torch.zeros(2, 2), "c": torch.zeros(1)})
    pieces = {f"{name}{at}": Piece(name, at, 2, stacked=True) for at in range(2) for name in "ab"}
    slots = by_array(dict.fromkeys(["c", "a0", "b0", "a1", "b1"]), pieces)
    assert [*slots] == ["c", "a0", "a1", "b0", "b1"]
    divided = DividedFile(file, pieces)
    for name in slots:
        divided.read(name)
    assert file.reads == ["c", "a", "b"]


def test_slots_without_pieces_keep_their_order() -> None:
    assert [*by_array(dict.fromkeys("zab"), {})] == [*"zab"]


@pytest.mark.parametrize("piece", [Piece("a", 0, 2), Piece("a", 0, 2, stacked=True), Piece("scalar", 0, 1)])
def test_arrays_that_cannot_be_cut_are_refused_by_name(piece: Piece) -> None:
    file = _Memory({"a": torch.zeros(3, 2), "scalar": torch.zeros(())})
    with pytest.raises(WeightsError, match=rf"model\.safetensors: array '{piece.array}' of shape"):
        DividedFile(file, {"piece": piece})
