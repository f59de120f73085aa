"""The types of NumPy arrays, whose numbers may be of any kind, of shapes, and of functions from arrays to arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
"""A model, seen from outside: a batch of inputs to a batch of outputs."""
Shape = tuple[int, ...]
