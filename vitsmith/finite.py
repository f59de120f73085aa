"""Find numbers that are not finite, in one pass, and report them by name. No torch here.

A NaN or an infinity in a weight, an output or a measurement is a fault that spreads: inputs and outputs with one are
refused, and the message names the array or image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.errors import NOT_FINITE, NotFiniteError

_SHOWN = 4  # arrays named in a message


def count_not_finite(values: Any) -> int:
    """Count the values of a NumPy array or a torch tensor that are NaN or infinite.

    Usually one pass without new memory is enough: a NaN or infinity makes the sum not finite. Only then, as huge
    numbers may do that too, the values are checked one by one.
    """
    with np.errstate(all="ignore"):
        if math.isfinite(float(values.sum())):
            return 0
    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite().cpu().numpy()
    return int(np.count_nonzero(~finite))


def require_finite(arrays: Iterable[tuple[str, Any]], where: str, advice: str) -> None:
    """Raise NotFiniteError, which names the arrays of `where` with NaN or infinity and the number of such values.

    `arrays` are (name, NumPy array or tensor) and are checked one by one: they may be read lazily.
    """
    found = [(name, count, math.prod(values.shape)) for name, values in arrays if (count := count_not_finite(values))]
    if found:
        shown = ", ".join(f"{name} ({count:,} of {size:,} values)" for name, count, size in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} arrays more" if len(found) > _SHOWN else ""
        raise NotFiniteError(f"{where} has weights that are {NOT_FINITE}: {shown}{more}; {advice}")


def require_finite_outputs(outputs: Array, inputs: Array, where: str, *, what: str = "image") -> Array:
    """Return `outputs` (batch, ...) unchanged. Raises NotFiniteError, with the first row, when some are not finite."""
    if not count_not_finite(outputs):
        return outputs
    require_finite_inputs(inputs, where, what=what)
    rows = rows_not_finite(outputs)
    of = _row(what, rows[0], len(outputs))
    more = f" (and of {len(rows) - 1} more)" if len(rows) > 1 else ""
    raise NotFiniteError(
        f"{where}: the model's output of {of}{more} is {NOT_FINITE}: a weight is damaged, or values exceed the "
        "range of its precision; use fp32, or another checkpoint"
    )


def require_finite_inputs(inputs: Array, where: str, *, what: str = "image") -> None:
    """Raise NotFiniteError, with the first row, for inputs (batch, ...) that are not finite."""
    if inputs.dtype.kind == "f" and count_not_finite(inputs):
        of = _row(what, rows_not_finite(inputs)[0], len(inputs))
        raise NotFiniteError(f"{where} was given values that are {NOT_FINITE}, in {of}: give finite numbers")


def require_numbers(demands: Any) -> None:
    """Raise NotFiniteError when a field of a dataclass is NaN: every comparison with it is false.

    Infinity is allowed: it means that there is no limit.
    """
    for name, value in vars(demands).items():
        if isinstance(value, float) and math.isnan(value):
            raise NotFiniteError(f"{name.replace('_', ' ')} is not a number (NaN), so nothing can be compared with it")


def rows_not_finite(outputs: Array) -> list[int]:
    """The rows of (batch, ...) with a value that is not finite."""
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    found: list[int] = np.flatnonzero(~finite).tolist()
    return found


def _row(what: str, row: int, count: int) -> str:
    return f"{what} {row} of {count}" if count > 1 else f"the {what}"
