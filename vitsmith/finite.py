"""Numbers that are not finite: found in one pass, and told by name. No torch here.

A NaN or an infinity in a weight, an answer or a measurement is a fault that spreads: it is refused where it enters or
leaves, with the name of the array or image that has it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from vitsmith.errors import NOT_FINITE, NotFiniteError

Array = np.ndarray[Any, Any]

_SHOWN = 4  # arrays named in a message


def count_not_finite(values: Any) -> int:
    """How many values of a NumPy array or a torch tensor are NaN or infinite.

    One pass that allocates nothing: NaN and infinity survive a sum. Only when the sum is not finite, as that of huge
    numbers may be, are the values looked at one by one.
    """
    with np.errstate(all="ignore"):
        if math.isfinite(float(values.sum())):
            return 0
    finite = np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite().cpu().numpy()
    return int(np.count_nonzero(~finite))


def require_finite(arrays: Iterable[tuple[str, Any]], where: str, advice: str) -> None:
    """Raises NotFiniteError, naming the arrays of `where` that hold NaN or infinity and how many values do.

    `arrays` are (name, NumPy array or tensor) and are looked at one by one: they may be read as they are asked for.
    """
    found = [(name, count, math.prod(values.shape)) for name, values in arrays if (count := count_not_finite(values))]
    if found:
        shown = ", ".join(f"{name} ({count:,} of {size:,} values)" for name, count, size in found[:_SHOWN])
        more = f" and {len(found) - _SHOWN} arrays more" if len(found) > _SHOWN else ""
        raise NotFiniteError(f"{where} has weights that are {NOT_FINITE}: {shown}{more}; {advice}")


def require_finite_outputs(outputs: Array, inputs: Array, where: str, *, what: str = "image") -> Array:
    """`outputs` (batch, ...) as they are. Raises NotFiniteError, with the first row, for those that are not finite."""
    if not count_not_finite(outputs):
        return outputs
    require_finite_inputs(inputs, where, what=what)
    rows = rows_not_finite(outputs)
    of = _row(what, rows[0], len(outputs))
    more = f" (and of {len(rows) - 1} more)" if len(rows) > 1 else ""
    raise NotFiniteError(
        f"{where}: the model's output of {of}{more} is {NOT_FINITE}: a weight is damaged, or values grow beyond what "
        "its precision holds; use fp32, or another checkpoint"
    )


def require_finite_inputs(inputs: Array, where: str, *, what: str = "image") -> None:
    """Raises NotFiniteError, with the first row, for inputs (batch, ...) that are not finite."""
    if inputs.dtype.kind == "f" and count_not_finite(inputs):
        of = _row(what, rows_not_finite(inputs)[0], len(inputs))
        raise NotFiniteError(f"{where} was given values that are {NOT_FINITE}, in {of}: give it numbers")


def require_numbers(demands: Any) -> None:
    """Raises NotFiniteError for a field of a dataclass that is NaN: every comparison with it is false, and none is met.

    Infinity is a bound like any other: nothing is too much.
    """
    for name, value in vars(demands).items():
        if isinstance(value, float) and math.isnan(value):
            raise NotFiniteError(f"{name.replace('_', ' ')} is not a number (NaN), so nothing can be compared with it")


def rows_not_finite(outputs: Array) -> list[int]:
    """Which rows of (batch, ...) have a value that is not finite."""
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    found: list[int] = np.flatnonzero(~finite).tolist()
    return found


def _row(what: str, row: int, count: int) -> str:
    return f"{what} {row} of {count}" if count > 1 else f"the {what}"
