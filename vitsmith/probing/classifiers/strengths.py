"""The search for the strength of a logistic regression's penalty: cross-validation, from the strongest down.

N training images, n of them left out in some fold, R principal axes, K classes with images, F folds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vitsmith.probing.classifiers.choice import Tried, told_end
from vitsmith.probing.classifiers.folds import ALWAYS_TRAINED
from vitsmith.probing.classifiers.labelled import LabelledFeatures, blocks
from vitsmith.probing.classifiers.linear import PrincipalAxes
from vitsmith.probing.classifiers.softmax import Optimum, Regressions, minimise
from vitsmith.probing.classifiers.steps import OnStep

STRONGEST, FIRST, WEAKEST = 1e4, 1.0, 1e-7
"""The search begins at FIRST, goes down by tens, then up where FIRST was best; it never leaves the other two."""
_COARSE = 1e-4  # what may still be gained while strengths are compared, relative to the objective
_CERTAIN = 3.0  # standard errors of the mean difference of log-losses, image by image
_SAME = 1e-4  # nats: a log-loss that is lower by less is no gain
_COLUMNS = 128  # classes times fits of one product: few classes are fitted to several folds at once, many to one
_SCORED = 2**20  # logits of images left out in memory: 4 MiB


@dataclass(frozen=True, eq=False)
class Problem:
    """Training images in principal axes, fold by fold, with the classes that have images numbered 0 to K - 1."""

    axes: PrincipalAxes
    features: Tensor
    """(N, R)."""
    labels: Tensor
    """(N,) int64."""
    folds: Tensor
    """(N,) the fold in which each image is left out, or -1; ascending."""
    present: Tensor
    """(K,) which class each number means."""
    deadline: float
    on_step: OnStep

    @classmethod
    def of(
        cls, train: LabelledFeatures, axes: PrincipalAxes, folds: Tensor | None, deadline: float, on_step: OnStep
    ) -> Problem:
        """The images `train`, with their `folds` (N,); None: none is ever left out."""
        present, labels = train.present()
        if folds is None:
            never = torch.full_like(labels, ALWAYS_TRAINED)
            return cls(axes, axes.coordinates, labels, never, present, deadline, on_step)
        order = folds.argsort(stable=True)
        return cls(axes, axes.coordinates[order], labels[order], folds[order], present, deadline, on_step)

    def zeros(self, fits: int) -> Tensor:
        """(R + 1, F, K) weights to begin with."""
        return self.features.new_zeros(self.features.shape[1] + 1, fits, len(self.present))

    def fit(self, left: Tensor, strength: float, start: Tensor, tolerance: float, note: str) -> Optimum:
        """A fit without each of the folds `left` (F,), with the C that `strength` means for all images.

        -1 is a fit to all images.
        """
        seen = (self.folds[:, None] != left) | (left == ALWAYS_TRAINED)  # (N, F)
        counts = seen.sum(dim=0)  # (F,)
        shares = seen.to(self.features) / counts
        parts: tuple[slice, ...] = (slice(None),)
        if len(left) == 1 and left != ALWAYS_TRAINED:  # one fit alone needs no images that it does not see
            out = self.rows(int(left))
            parts = slice(0, out.start), slice(out.stop, len(self.labels))
        return minimise(
            Regressions(self.features, self.labels, len(self.present), self.axes.variances, shares, parts),
            strength * len(seen) / counts,
            start,
            tolerance=tolerance,
            deadline=self.deadline,
            on_iteration=lambda: self.on_step(note=note),
        )

    def rows(self, fold: int) -> slice:
        """The images of a fold."""
        first, end = torch.searchsorted(self.folds, torch.tensor([fold, fold + 1]).to(self.folds)).tolist()
        return slice(first, end)

    def score(self, fold: int, weight: Tensor) -> tuple[Tensor, int]:
        """Log-losses of the images of a fold, by weights (R + 1, K), and how many are answered correctly."""
        out, losses, right = self.rows(fold), list[Tensor](), 0
        features, labels = self.features[out], self.labels[out]
        for rows in blocks(len(labels), max(1, _SCORED // len(weight[-1]))):
            logits = torch.addmm(weight[-1], features[rows], weight[:-1])
            losses.append(torch.nn.functional.cross_entropy(logits, labels[rows], reduction="none"))
            right += int((logits.argmax(dim=1) == labels[rows]).sum())
        return torch.cat([features.new_zeros(0), *losses]), right  # a fold may have no images


@dataclass(frozen=True, eq=False)
class _Result:
    """What cross-validation found at one strength."""

    weight: Tensor
    """(R + 1, F, K)."""
    losses: Tensor
    """(n,) log-losses of the images left out, fold by fold; fewer where the first folds were certainly worse."""
    accuracy: float
    converged: bool

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def is_certainly_worse(self, than: _Result) -> bool:
        """By the images that both have scored: those of the first folds."""
        more = self.losses - than.losses[: len(self.losses)]
        error = float(more.std()) / len(more) ** 0.5 if len(more) > 1 else 0.0
        return float(more.mean()) > max(_CERTAIN * error, _SAME)


@dataclass(eq=False)
class StrengthSearch:
    """Cross-validation at one strength after another."""

    problem: Problem
    results: dict[float, _Result] = field(default_factory=dict)
    late: bool = False
    """Whether the deadline ended the search."""

    def run(self) -> tuple[float, Tensor]:
        """The best strength, and weights (R + 1, 1, K) to begin the fit to all images with: the mean over folds."""
        self._go(FIRST, 0.1, self.problem.zeros(int(self.problem.folds[-1]) + 1))
        if self.best == FIRST:
            self._go(FIRST * 10, 10.0, self.results[FIRST].weight)
        best = self.best
        for strength in (best * 10**0.5, best / 10**0.5):
            if WEAKEST <= strength <= STRONGEST and not self._is_late():
                self._try(strength, self.results[best].weight, self.results[best])
        return self.best, self.results[self.best].weight.mean(dim=1, keepdim=True)

    @property
    def best(self) -> float:
        """The strength of least log-loss; the strongest of those that are no worse."""
        count = int((self.problem.folds != ALWAYS_TRAINED).sum())
        whole = {strength: result for strength, result in self.results.items() if len(result.losses) == count}
        least = min(result.loss for result in whole.values())
        return max(strength for strength, result in whole.items() if result.loss <= least + _SAME)

    def tried(self) -> tuple[Tried, ...]:
        """All strengths, the weakest first."""
        return tuple(
            Tried(strength, result.accuracy, result.loss, result.converged, len(result.losses))
            for strength, result in sorted(self.results.items())
        )

    def remarks(self) -> list[str]:
        """What a user should know about the search."""
        found = []
        best, ordered = self.best, sorted(self.results)
        ends = {ordered[0]: "weakest"}
        if len(ordered) > 1 and self.results[ordered[-2]].loss > self.results[ordered[-1]].loss + _SAME:
            ends[ordered[-1]] = "strongest"  # else a stronger one is no better
        if best in ends and len(ordered) > 1:
            found.append(told_end("regularisation", best, ends[best]))
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
            result = self._try(strength, weight, before)
            if before is not None and result.is_certainly_worse(before):
                break
            idle = idle + 1 if before is not None and result.loss > before.loss - _SAME else 0
            strength, weight = strength * factor, result.weight

    def _is_late(self) -> bool:
        self.late = self.late or (bool(self.results) and time.perf_counter() > self.problem.deadline)
        return self.late

    def _try(self, strength: float, start: Tensor, best: _Result | None) -> _Result:
        """Fits to all folds but one in turn, and scores the one left out; until it is certainly worse than `best`."""
        folds, size = start.shape[1], max(1, _COLUMNS // len(self.problem.present))
        weights, losses, right, converged = list[Tensor](), list[Tensor](), 0, True
        for left in torch.split(torch.arange(folds, device=start.device), size):
            first, last = int(left[0]) + 1, int(left[-1]) + 1
            which = f"fold {last}" if first == last else f"folds {first} to {last}"
            note = f"regularisation {strength:.3g}, {which} of {folds}"
            found = self.problem.fit(left, strength, start[:, left], _COARSE, note)
            for at, fold in enumerate(left.tolist()):
                missed, hits = self.problem.score(fold, found.weight[:, at])
                losses.append(missed)
                right += hits
            weights.append(found.weight)
            converged = converged and found.converged
            result = _Result(torch.cat(weights, dim=1), torch.cat(losses), right / sum(map(len, losses)), converged)
            if best is not None and result.is_certainly_worse(best):
                break
        self.results[strength] = result
        return result
