"""Names of an `.npz` as the tables of names have them: without a common prefix, and each block by itself.

big_vision puts `params/` before all names of some files, and stacks the blocks of a tower that it ran by `nn.scan`:
`encoderblock/...` with a leading axis of depth. Source: its utils.py (`load_params`), models/vit.py (`scan_to_pyloop`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.weights.containers.divided import Piece

_PREFIXES = ("params/", "opt/target/")
_STACK = re.compile(r"(?P<tower>.*/encoderblock)/(?P<part>.+)")
_DEEPEST = 1_000


def prefix_of(names: Mapping[str, Shape]) -> str:
    """What stands before the names of the weights; beside it lie those of the optimizer, if there are others."""
    return next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in names)), "")


def unstacked(shapes: Mapping[str, Shape]) -> tuple[dict[str, Shape], dict[str, Piece]]:
    """Shapes by names without stacks, and where the arrays of stacked blocks lie. Raises WeightsError."""
    alone, pieces = dict(shapes), {}
    for name, shape in shapes.items():
        if not (match := _STACK.fullmatch(name)) or not shape:
            continue
        if shape[0] > _DEEPEST:
            raise WeightsError(f"array {name!r} stacks {shape[0]:,} blocks, at most {_DEEPEST:,} are possible")
        del alone[name]
        for index in range(shape[0]):
            block = f"{match['tower']}_{index}/{match['part']}"
            pieces[block], alone[block] = Piece(name, index, shape[0], stacked=True), shape[1:]
    return alone, pieces
