"""Least squares with factors that are not negative: Lawson, Hanson, "Solving Least Squares Problems" (1974), 23.3."""

from __future__ import annotations

import numpy as np

from vitsmith.arrays import Array

_TURNS = 10
"""Most changes of the set of positive factors, for each factor."""


def nonnegative_least_squares(rows: Array, targets: Array) -> Array:
    """float64 (n,): the x >= 0 with the least |rows x - targets|, for `rows` (m, n) and `targets` (m,).

    SciPy's `nnls` gives the same; what predicts costs runs where SciPy is not installed.
    """
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    rows = rows / scale
    count = rows.shape[1]
    chosen, factors = np.zeros(count, bool), np.zeros(count)
    for _ in range(_TURNS * count):
        gain = rows.T @ (targets - rows @ factors)
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        if gain[best] <= 1e-10 * np.linalg.norm(targets):
            break
        chosen[best] = True
        while True:
            found = np.zeros(count)
            found[chosen] = np.linalg.lstsq(rows[:, chosen], targets, rcond=None)[0]
            low = chosen & (found <= 0)
            if not low.any():
                break
            # Go towards `found` until the first factor is zero; that one leaves the set.
            steps = factors[low] / np.maximum(factors[low] - found[low], 1e-300)
            factors += steps.min() * (found - factors)
            chosen &= factors > 1e-12
            factors[~chosen] = 0.0
            if not chosen.any():
                found = factors
                break
        factors = found
    return factors / scale
