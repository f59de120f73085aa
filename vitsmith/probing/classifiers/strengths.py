"""The search for the strength of a logistic regression's penalty: cross-validation, from the strongest down.

N training images, n of them left out in some fold, R principal axes, K classes with images, F folds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitsmith.probing.classifiers.choice import Tried
from vitsmith.probing.classifiers.folds import ALWAYS_TRAINED
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.linear import PrincipalAxes
from vitsmith.probing.classifiers.softmax import Optimum, Regressions, minimise

STRONGEST, FIRST, WEAKEST = 1e4, 1.0, 1e-7
"""The search begins at FIRST, goes down by tens, then up where FIRST was best; it never leaves the other two."""
_COARSE = 1e-4  # what may still be gained while strengths are compared, relative to the objective
_CERTAIN = 3.0  # standard errors of the mean difference of log-losses, image by image
_SAME = 1e-4  # nats: a log-loss that is lower by less is no gain
_AT_ONCE = 2**25  # logits in memory: 128 MiB


@dataclass(frozen=True, eq=False)
class Problem:
    """Training images in principal axes, with the classes that have images numbered 0 to K - 1."""

    axes: PrincipalAxes
    features: Tensor
    """(N, R + 1): coordinates, and 1."""
    labels: Tensor
    """(N,) int64."""
    present: Tensor
    """(K,) which class each number means."""
    deadline: float

    @classmethod
    def of(cls, train: LabelledFeatures, axes: PrincipalAxes, deadline: float) -> Problem:
        present, labels = train.present()
        ones = axes.coordinates.new_ones(len(labels), 1)
        return cls(axes, torch.cat([axes.coordinates, ones], dim=1), labels, present, deadline)

    def zeros(self, fits: int) -> Tensor:
        """(R + 1, F, K) weights to begin with."""
        return self.features.new_zeros(self.features.shape[1], fits, len(self.present))

    def fit(self, seen: Tensor, strength: float, start: Tensor, tolerance: float) -> Optimum:
        """One fit to the images of each column of `seen` (N, F), with the C that `strength` means for all images."""
        counts = seen.sum(dim=0)  # (F,)
        shares = seen.to(self.features) / counts
        regressions = Regressions(self.features, self.labels, len(self.present), self.axes.variances, shares)
        strengths = strength * len(seen) / counts
        return minimise(regressions, strengths, start, tolerance=tolerance, deadline=self.deadline)


@dataclass(frozen=True, eq=False)
class _Result:
    """What cross-validation found at one strength."""

    weight: Tensor
    """(R + 1, F, K)."""
    losses: Tensor
    """(n,) log-losses of the images left out."""
    accuracy: float
    converged: bool

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def is_certainly_worse(self, than: _Result) -> bool:
        more = self.losses - than.losses
        error = float(more.std()) / len(more) ** 0.5 if len(more) > 1 else 0.0
        return float(more.mean()) > max(_CERTAIN * error, _SAME)


@dataclass(eq=False)
class StrengthSearch:
    """Cross-validation at one strength after another."""

    problem: Problem
    folds: Tensor
    """(N,) the fold in which each image is left out, or -1."""
    on_fit: Callable[[], None]
    results: dict[float, _Result] = field(default_factory=dict)
    late: bool = False
    """Whether the deadline ended the search."""

    def run(self) -> tuple[float, Tensor]:
        """The best strength, and weights (R + 1, 1, K) to begin the fit to all images with: the mean over folds."""
        self._go(FIRST, 0.1, self.problem.zeros(int(self.folds.max()) + 1))
        if self.best == FIRST:
            self._go(FIRST * 10, 10.0, self.results[FIRST].weight)
        best = self.best
        for strength in (best * 10**0.5, best / 10**0.5):
            if WEAKEST <= strength <= STRONGEST and not self._is_late():
                self._try(strength, self.results[best].weight)
        return self.best, self.results[self.best].weight.mean(dim=1, keepdim=True)

    @property
    def best(self) -> float:
        """The strength of least log-loss; the strongest of those that are no worse."""
        least = min(result.loss for result in self.results.values())
        return max(strength for strength, result in self.results.items() if result.loss <= least + _SAME)

    def tried(self) -> tuple[Tried, ...]:
        """All strengths, the weakest first."""
        return tuple(
            Tried(strength, result.accuracy, result.loss, result.converged)
            for strength, result in sorted(self.results.items())
        )

    def remarks(self) -> list[str]:
        """What a user should know about the search."""
        found = []
        ends = {max(self.results): "strongest", min(self.results): "weakest"}
        if self.best in ends and len(self.results) > 1:
            found.append(f"the best regularisation, {self.best:.3g}, is the {ends[self.best]} that was tried")
        if self.late:
            found.append(f"time ended the search after {len(self.results)} regularisations")
        if stopped := sum(not result.converged for result in self.results.values()):
            found.append(f"fits of {stopped} of {len(self.results)} regularisations stopped before their optimum")
        return found

    def _go(self, strength: float, factor: float, weight: Tensor) -> None:
        """Tries strengths by `factor`, until one is certainly worse than the best or two in a row gain nothing."""
        idle = 0
        while WEAKEST * 0.99 < strength < STRONGEST * 1.01 and idle < 2 and not self._is_late():
            before = self.results[self.best] if self.results else None
            result = self._try(strength, weight)
            if before is not None and result.is_certainly_worse(before):
                break
            idle = idle + 1 if before is not None and result.loss > before.loss - _SAME else 0
            strength, weight = strength * factor, result.weight

    def _is_late(self) -> bool:
        self.late = self.late or (bool(self.results) and time.perf_counter() > self.problem.deadline)
        return self.late

    def _try(self, strength: float, start: Tensor) -> _Result:
        """Fits to all folds but one in turn, as many at once as memory allows, and scores the one left out."""
        size = max(1, _AT_ONCE // (len(self.folds) * len(self.problem.present)))
        weights, losses, right, converged = [], [], 0, True
        for numbers in torch.split(torch.arange(start.shape[1], device=start.device), size):
            seen = self.folds[:, None] != numbers
            found = self.problem.fit(seen, strength, start[:, numbers], _COARSE)
            for at, number in enumerate(numbers):
                rows = self.folds == number
                logits, labels = found.logits[rows, at], self.problem.labels[rows]
                losses.append(torch.nn.functional.cross_entropy(logits, labels, reduction="none"))
                right += int((logits.argmax(dim=1) == labels).sum())
            weights.append(found.weight)
            converged = converged and found.converged
        accuracy = right / int((self.folds != ALWAYS_TRAINED).sum())
        result = self.results[strength] = _Result(torch.cat(weights, dim=1), torch.cat(losses), accuracy, converged)
        self.on_fit()
        return result
