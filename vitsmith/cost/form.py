"""The physical form of the time of a call: a sum of kinds of work, each with a factor that is never negative.

Where nothing near was measured it alone predicts; elsewhere what it leaves over is interpolated (`residuals.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array
from vitsmith.cost.least_squares import nonnegative_least_squares
from vitsmith.cost.work import TERMS

_TURNS = 3
_PULL = 0.1
"""How strongly a factor is held near its prior: twice as large a factor counts as an error of 10 % in one time."""


@dataclass(frozen=True)
class Form:
    """Seconds for each unit of each kind of work."""

    factors: Array
    """float64 (terms,)."""

    @classmethod
    def fit(cls, counts: Array, seconds: Array, prior: Form | None = None) -> Form:
        """From the work (n, terms) of calls that took `seconds` (n,).

        Errors count in proportion to the time. A factor that the calls hardly tell stays near that of `prior`.
        """
        rows, targets = counts / seconds[:, None], np.ones(len(seconds))
        if prior is not None:
            known = prior.factors > 0
            pulled = _PULL * np.diag(1 / np.where(known, prior.factors, 1.0))[known]
            rows, targets = np.vstack([rows, pulled]), np.concatenate([targets, np.full(known.sum(), _PULL)])
        factors = nonnegative_least_squares(rows, targets)
        for _ in range(_TURNS):  # the error of the logarithm: overestimates of 1 / x count as underestimates of x
            weights = np.ones(len(targets))
            weights[: len(seconds)] = 1 / np.clip(rows[: len(seconds)] @ factors, 0.5, 2.0) ** 0.5
            factors = nonnegative_least_squares(rows * weights[:, None], targets * weights)
        return cls(factors)

    def with_guesses(self, guesses: Mapping[str, str]) -> Form:
        """The same with the factor of another kind of work for each name of `guesses`."""
        factors = self.factors.copy()
        for name, other in guesses.items():
            factors[TERMS.index(name)] = factors[TERMS.index(other)]
        return Form(factors)

    def seconds(self, counts: Array) -> float:
        """The time of such work."""
        return float(counts @ self.factors)

    def shares(self, counts: Array) -> dict[str, float]:
        """The share of each kind of work in that time."""
        parts = counts * self.factors
        return {name: float(part / parts.sum()) for name, part in zip(TERMS, parts, strict=True) if part}
