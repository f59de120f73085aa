"""Fits several multinomial logistic regressions at once: to the same images, which each fit weighs in its own way.

N images, R features, K classes, F fits. The features should not correlate, and have the mean 0.

L-BFGS (D. C. Liu, J. Nocedal, Mathematical Programming 45 (1989), 503-528) with three changes. All fits share each
product of matrices. No array of (N, F, K) is made: logits and errors are there for a block of images at a time, which
the cache of a processor holds. The inverse Hessian is first taken to be diagonal: 1 / (mean of p (1 - p), of a
probability p, times the variance of the feature, plus the penalty).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vitsmith.probing.classifiers.labelled import blocks

MOST_ITERATIONS = 500
_LEAST_ITERATIONS = 3  # before that the estimate of what is still to be gained is not trusted
_AFTER_DEADLINE = 5
_MEMORY = 10  # steps that the inverse Hessian is estimated from
_HALVINGS = 20
_ENOUGH = 1e-4  # of the decrease that the slope promises: Armijo's rule, with the usual constant
_STALLED = 1e-4  # with less to gain, relative to the objective, a fit that rounding stops has converged
_HIDDEN = 1e-7  # cosine of a step and the change of its gradient, below which it is the rounding of float32
_LEAST_CURVATURE = 1e-6  # mean of p (1 - p): where all images are certain, it says nothing about the scale of a step
_AT_ONCE = 2**20  # logits of a block: 4 MiB


@dataclass(frozen=True, eq=False)
class Regressions:
    """What each fit minimises: sum of share * cross-entropy + strength / 2 * |weights|^2, the bias left free."""

    features: Tensor
    """(N, R) float32."""
    labels: Tensor
    """(N,) int64."""
    classes: int
    variances: Tensor
    """(R,) variance of each feature."""
    shares: Tensor
    """(N, F) weight of each image in each fit; 0 for images that it does not see. They sum to 1."""
    parts: tuple[slice, ...] = (slice(None),)
    """The images that any fit sees: others are not computed."""

    def evaluate(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(F,) weighted cross-entropy, float64, and its gradient (R + 1, F, K), of weights (R + 1, F, K)."""
        gradient, loss = torch.zeros_like(weight), self._zero_loss(weight)
        for rows, part, errors in self._blocks(weight):
            loss += part
            errors *= self.shares[rows, :, None]
            gradient[:-1].flatten(1).addmm_(self.features[rows].T, errors.flatten(1))
            gradient[-1] += errors.sum(dim=0)
        return loss, gradient

    def curvature(self, weight: Tensor) -> Tensor:
        """(R + 1, F, K) about the diagonal of the Hessian: variance of the feature times weighted mean of p (1 - p)."""
        uncertain = torch.zeros_like(weight[-1])
        for rows, _, errors in self._blocks(weight):
            certain = errors.abs_()  # p, or 1 - p for the image's own class
            uncertain += torch.einsum("nf,nfk->fk", self.shares[rows], certain - certain.square())
        variances = torch.cat([self.variances, self.variances.new_ones(1)]).to(weight)
        return variances[:, None, None] * uncertain.clamp(min=_LEAST_CURVATURE)

    def _blocks(self, weight: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """For n images at a time: which they are, their part (F,) of the losses, and (n, F, K) errors."""
        for part in self.parts:
            first, end, _ = part.indices(len(self.labels))
            for rows in blocks(end - first, max(1, _AT_ONCE // weight[-1].numel())):
                rows = slice(first + rows.start, min(first + rows.stop, end))
                logits = torch.addmm(weight[-1].flatten(), self.features[rows], weight[:-1].flatten(1))
                yield rows, *self._objective(logits.view(-1, *weight.shape[1:]), rows)

    def _objective(self, logits: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
        """(F,) weighted cross-entropy, float64, and (n, F, K) probabilities minus targets, of logits (n, F, K).

        Where the class of an image is all but certain, both are made from the probability of the other classes: 1
        minus a probability near 1 is rounding, and with little penalty those images decide.
        """
        logs = logits.log_softmax(dim=2)
        index = self.labels[rows, None, None].expand(-1, logits.shape[1], 1)
        own = logs.gather(2, index)  # (n, F, 1)
        errors = logs.exp_().scatter_(2, index, 0.0)
        others = errors.sum(dim=2, keepdim=True)
        losses = torch.where(others < 0.5, -torch.log1p(-others), -own)[:, :, 0]
        errors.scatter_(2, index, -others)
        return (losses.to(_precise(losses)) * self.shares[rows]).sum(dim=0), errors

    def _zero_loss(self, weight: Tensor) -> Tensor:
        return torch.zeros(weight.shape[1], dtype=_precise(weight), device=weight.device)


def _precise(values: Tensor) -> torch.dtype:
    """The type of sums over images."""
    return torch.float32 if values.device.type == "mps" else torch.float64


@dataclass(frozen=True, eq=False)
class Optimum:
    """Where the fits ended."""

    weight: Tensor
    """(R + 1, F, K); the last row is the bias."""
    objective: Tensor
    """(F,) what was minimised."""
    converged: bool
    """Whether no fit had more to gain than the tolerance."""
    iterations: int


def minimise(
    regressions: Regressions,
    strengths: Tensor,
    start: Tensor,
    *,
    tolerance: float,
    most: int = MOST_ITERATIONS,
    deadline: float = float("inf"),
    on_iteration: Callable[[], None] = lambda: None,
) -> Optimum:
    """Fits with `strengths` (F,), from the weights `start` (R + 1, F, K).

    It ends when no fit can lower its objective by more than about `tolerance` times the objective, after `most`
    iterations, or 5 iterations after `deadline`, a time of `perf_counter`. Nothing is drawn at random.
    """
    penalty = strengths.to(start)[None, :, None].repeat(len(start), 1, 1)  # (R + 1, F, 1)
    penalty[-1] = 0
    line = _Line(regressions, penalty)
    weight = start.clone()
    value, gradient = line.evaluate(weight)
    memory = _Memory(1 / (regressions.curvature(weight) + penalty))
    late = 0
    for iteration in range(most + 1):
        direction = -memory.apply(gradient)
        slope = _dot(gradient, direction)
        unfinished = -slope / 2 > tolerance * value  # what a step of Newton's method would still gain
        converged = iteration >= _LEAST_ITERATIONS and not bool(unfinished.any())
        late += time.perf_counter() > deadline
        if converged or iteration == most or late > _AFTER_DEADLINE:
            break
        step, after, found = line.search(weight, direction, value, slope)
        move = step[None, :, None] * direction
        weight, gradient, before = weight + move, found, gradient
        memory.add(move, gradient - before)
        if not (after < value).any():  # rounding: no step goes down any more
            converged = not bool((-slope / 2 > _STALLED * value).any())
            break
        value = after
        on_iteration()
    return Optimum(weight, value, converged, iteration)


@dataclass(frozen=True, eq=False)
class _Line:
    """The objectives with their penalty (R + 1, F, 1), and the search along a line."""

    regressions: Regressions
    penalty: Tensor

    def evaluate(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(F,) objectives and their gradient (R + 1, F, K)."""
        loss, gradient = self.regressions.evaluate(weight)
        pulled = self.penalty * weight
        pull = (pulled * weight).sum(dim=(0, 2), dtype=loss.dtype) / 2
        return loss + pull, gradient.add_(pulled)

    def search(self, weight: Tensor, direction: Tensor, value: Tensor, slope: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Steps (F,) that lower each objective enough, at most 1; the objectives (F,), and the gradient there.

        A fit for which rounding hides every decrease gets the step 0.
        """
        step = torch.ones_like(slope)
        for trial in range(_HALVINGS + 1):
            after, gradient = self.evaluate(weight + step[None, :, None] * direction)
            fits = after <= value + _ENOUGH * step * slope
            if fits.all() or trial == _HALVINGS:
                break
            lowest = -slope * step.square() / (2 * (after - value - step * slope)).clamp(min=1e-300)
            shorter = torch.minimum(torch.maximum(lowest.to(step), step / 10), step / 2)
            step = torch.where(fits, step, torch.zeros_like(step) if trial == _HALVINGS - 1 else shorter)
        return step, after, gradient


class _Memory:
    """The inverse Hessian of each fit, estimated from its last steps and a diagonal (R + 1, F, K)."""

    def __init__(self, diagonal: Tensor) -> None:
        self.diagonal = diagonal
        self.scale = diagonal.new_ones(diagonal.shape[1])
        self.pairs: deque[tuple[Tensor, Tensor, Tensor]] = deque(maxlen=_MEMORY)

    def add(self, move: Tensor, change: Tensor) -> None:
        """Remembers a step and how it changed the gradient; for fits whose curvature rounding hides, nothing."""
        curved = _dot(move, change)
        scaled = _dot(change, self.diagonal * change)
        clear = curved > _HIDDEN * (_dot(move, move) * _dot(change, change)).sqrt()
        self.pairs.append((move, change, torch.where(clear, 1 / curved, 0.0)))
        self.scale = torch.where(clear, curved / scaled, self.scale)

    def apply(self, gradient: Tensor) -> Tensor:
        """The product with (R + 1, F, K): J. Nocedal, Mathematics of Computation 35 (1980), 773-782."""
        result, factors = gradient.clone(), []
        for move, change, inverse in reversed(self.pairs):
            factors.append(inverse * _dot(move, result))
            result -= factors[-1][:, None] * change
        result *= self.scale[:, None] * self.diagonal
        for (move, change, inverse), factor in zip(self.pairs, reversed(factors), strict=True):
            result += (factor - inverse * _dot(change, result))[:, None] * move
        return result


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """(F,) inner products of (R + 1, F, K)."""
    return (first * second).sum(dim=(0, 2))
