"""The type of NumPy arrays where their numbers may be of any kind; a docstring says their shape and kind."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
