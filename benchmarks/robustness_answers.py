"""What a change, a subject of changes and an answer are, in benchmarks/robustness.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from robustness_mutations import Random

Answer = list[Any]
"""Texts and arrays: equal for equal answers."""


@dataclass(frozen=True)
class Change:
    """What was done to a copy."""

    what: str
    covered: bool
    """Whether something in the format is there to notice it."""


@dataclass(frozen=True)
class Subject:
    """One kind of files."""

    share: int
    """Of all changes, in parts of what all subjects have together."""
    make: Callable[[Path], None]
    change: Callable[[Path, Random], Change]
    use: Callable[[Path], Answer]
    tolerance: float = 0.0
    """Arrays may differ by this share of the largest value and still be the same answer."""


def same(first: Answer, second: Answer, tolerance: float) -> bool:
    """Whether two answers are one."""
    return len(first) == len(second) and all(
        _same_array(a, b, tolerance) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else a == b
        for a, b in zip(first, second, strict=True)
    )


def _same_array(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], tolerance: float) -> bool:
    if first.shape != second.shape:
        return False
    if not tolerance or not first.size:
        return bool(np.array_equal(first, second))
    return float(np.abs(first - second).max()) <= tolerance * float(np.abs(first).max())
