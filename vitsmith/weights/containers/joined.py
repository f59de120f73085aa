"""Two files whose arrays belong to one model, seen as one."""

from __future__ import annotations

from torch import Tensor

from vitsmith.weights.fill import ArrayFile


class JoinedFiles:
    """The arrays of `first`, by whose path it goes, and of `second`; no name may be in both."""

    def __init__(self, first: ArrayFile, second: ArrayFile) -> None:
        self.path = first.path
        self.shapes = {**second.shapes, **first.shapes}
        self._first, self._second = first, second

    def read(self, name: str) -> Tensor:
        """One array as float32."""
        return (self._first if name in self._first.shapes else self._second).read(name)
