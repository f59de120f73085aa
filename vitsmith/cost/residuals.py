"""What the physical form leaves over, smoothed between calibrated sizes: a Gaussian process over log sizes.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1. Far from all that was
measured the mean is zero, so there the physical form alone speaks, and the deviation is as large as it is anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array

AMPLITUDES = (0.02, 0.04, 0.08, 0.12, 0.2, 0.3)
"""Deviations of the form that are tried; the most likely one is taken."""

UNKNOWN = 0.15
"""The deviation of the form where nothing was measured that tells it."""


@dataclass(frozen=True)
class Residuals:
    """A Gaussian process, fitted."""

    points: Array
    """float64 (n, d): where residuals are known, in units of the length over which they change."""
    weights: Array
    """float64 (n,)."""
    factor: Array
    """float64 (n, n): the Cholesky factor of their covariance."""
    amplitude: float

    @classmethod
    def fit(cls, points: Array, values: Array, noise: Array) -> Residuals:
        """From `values` (n,) at `points` (n, d), whose errors have the deviations `noise` (n,); n may be 0."""
        fits = [_fit(points, values, noise, amplitude) for amplitude in (AMPLITUDES if len(points) else (UNKNOWN,))]
        return max(fits, key=lambda pair: pair[0])[1]

    def at(self, point: Array) -> tuple[float, float]:
        """(mean, deviation) at `point` (d,)."""
        near = self.amplitude**2 * _similarity(self.points, point[None])[:, 0]
        left = np.linalg.solve(self.factor, near)
        variance = max(self.amplitude**2 - float(left @ left), 0.0)
        return float(near @ self.weights), variance**0.5


def _fit(points: Array, values: Array, noise: Array, amplitude: float) -> tuple[float, Residuals]:
    """(log likelihood, the process)."""
    covariance = amplitude**2 * _similarity(points, points) + np.diag(noise**2)
    factor = np.linalg.cholesky(covariance)
    left = np.linalg.solve(factor, values)
    likelihood = -0.5 * float(left @ left) - float(np.log(np.diag(factor)).sum())
    return likelihood, Residuals(points, np.linalg.solve(factor.T, left), factor, amplitude)


def _similarity(first: Array, second: Array) -> Array:
    """(n, m): 1 where points are the same, towards 0 with their distance (Matern 3/2: no smoother than times are)."""
    distance = 3**0.5 * np.sqrt(((first[:, None] - second[None]) ** 2).sum(-1))
    return (1 + distance) * np.exp(-distance)
