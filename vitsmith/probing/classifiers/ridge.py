"""One-vs-all least squares on standardised features, regularised by exact leave-one-out.

N training images, D features, K classes with images, R principal axes, S strengths.

Each class has the target 1 for its images and -1 for all others, as in scikit-learn's RidgeClassifier. Leaving out an
image needs no new fit: its residual is the ordinary one divided by 1 - h, with h its place in the diagonal of the
projection of targets on predictions (D. M. Allen, Technometrics 16 (1974), 125-127). Leaving out a group needs the
block of the group instead of one number. With few images and a weak penalty both are nearly 0: all of it is float64.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vitsmith.errors import InputError
from vitsmith.probing.classifiers.choice import UNCHOSEN, Choice, Tried, told_end
from vitsmith.probing.classifiers.folds import has_company
from vitsmith.probing.classifiers.labelled import LabelledFeatures, blocks, require_for_fitting
from vitsmith.probing.classifiers.linear import LinearProbe, PrincipalAxes, principal_axes
from vitsmith.probing.classifiers.steps import OnStep, unwatched

STRENGTHS = tuple(10 ** (power / 2) for power in range(-12, 7))
"""Regularisations that are tried, from 1e-6 to 1e3: alpha / N of scikit-learn, of features with deviation 1."""
_UNCHOSEN = 1e-1  # where no image can be left out
_SAME = 1e-4  # a squared error that is lower by a smaller share of itself is no gain
_AT_ONCE = 2**22  # predictions in memory: 32 MiB


def fit_ridge(
    train: LabelledFeatures,
    *,
    axes: PrincipalAxes | None = None,
    strengths: Sequence[float] = STRENGTHS,
    on_step: OnStep = unwatched,
) -> LinearProbe:
    """Least squares with the strength of `strengths` that has the least squared error on images left out one by one.

    The bias is not penalised. A group is left out as a whole. Features are standardised by all training images, those
    left out included. Squared errors that differ by less than 1e-4 of the least are equal, and of equal ones the
    strongest regularisation is taken: where the curve is flat, its bottom is rounding. `axes` are those of `train`, if
    they are known. `on_step` is called with the number of images that were left out.

    Raises InputError for fewer than 3 images, for one class, and for a strength that is not above 0.
    """
    require_for_fitting(train)
    if not strengths or min(strengths) <= 0:
        raise InputError(f"`strengths` are {list(strengths)}: give numbers above 0")
    axes = axes or principal_axes(train)
    present, labels = train.present()
    moments, mean = _moments(train, axes, labels, len(present))
    tried: tuple[Tried, ...] = ()
    if has_company(train).any():
        solution = moments, mean
        tried = _leave_out(train, axes, labels, solution, sorted(strengths), on_step)
        chosen, remarks = _choose(tried)
    else:
        chosen, remarks = _UNCHOSEN, (UNCHOSEN.format(what="strength", value=_UNCHOSEN),)
    weight = moments / (axes.variances + chosen)[:, None]
    head = axes.head(weight, mean, present, train.classes)
    return LinearProbe("ridge", head, Choice("strength", chosen, tried, remarks))


def _choose(tried: Sequence[Tried]) -> tuple[float, tuple[str, ...]]:
    """The strongest of the strengths with the least squared error, of those `tried`, the weakest first; and whether a
    strength beyond them may be better."""
    losses = [one.loss or 0.0 for one in tried]
    equal = [loss <= min(losses) * (1 + _SAME) for loss in losses]
    best = max(at for at, is_least in enumerate(equal) if is_least)
    chosen, ends = tried[best].value, {}
    if len(tried) > 1:
        ends = {0: "weakest"} if equal[-2] else {0: "weakest", len(tried) - 1: "strongest"}
    return chosen, (told_end("regularisation", chosen, ends[best]),) if best in ends else ()


def _moments(train: LabelledFeatures, axes: PrincipalAxes, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """(R, K) mean over images of coordinate times target, and (K,) mean of the targets.

    Coordinates have the mean 0, so only the sum over the images of a class counts, whose target is 2 above the others'.
    """
    sums = axes.mean.new_zeros(classes, train.width)
    for rows in blocks(len(labels)):
        sums.index_add_(0, labels[rows], axes.standardised(train.features[rows]))
    shares = torch.bincount(labels, minlength=classes).to(sums) / len(labels)
    return axes.rotation.T @ sums.T * (2 / len(labels)), 2 * shares - 1


def _leave_out(
    train: LabelledFeatures,
    axes: PrincipalAxes,
    labels: Tensor,
    solution: tuple[Tensor, Tensor],
    strengths: list[float],
    on_step: OnStep,
) -> tuple[Tried, ...]:
    """The squared error, mean over images and classes, and the accuracy of images left out, for each strength.

    `solution` are the moments (R, K) and the mean target (K,).
    """
    moments, mean = solution
    count, classes = len(labels), len(mean)
    shrunk = 1 / (axes.variances + mean.new_tensor(strengths)[:, None])  # (S, R)
    weights = (moments[:, None] * shrunk.T[:, :, None]).flatten(1)  # (R, S K)
    errors, right = mean.new_zeros(len(strengths)), mean.new_zeros(len(strengths))
    counted, company = 0, has_company(train)
    for members in _groups(train, max(len(strengths) * classes, train.width)):  # (G, m) images of G groups
        points = axes.standardised(train.features[members]) @ axes.rotation  # (G, m, R)
        wanted = 2 * torch.nn.functional.one_hot(labels[members], classes).to(mean) - 1  # (G, m, K)
        predicted = (points @ weights).view(*members.shape, len(strengths), classes) + mean  # (G, m, S, K)
        residual = (wanted[:, :, None] - predicted).transpose(1, 2)  # (G, S, m, K)
        left = _left_out(residual, points, shrunk, count)
        errors += left.square().sum(dim=(0, 2, 3))
        answers = (wanted[:, None] - left).argmax(dim=-1)  # (G, S, m)
        right += ((answers == wanted.argmax(dim=-1)[:, None]) & company[members][:, None]).sum(dim=(0, 2))
        counted += members.numel()
        on_step(members.numel())
    images = int(company.sum())
    shares, losses = (right / images).tolist(), (errors / (counted * classes)).tolist()
    return tuple(Tried(*facts, images=counted) for facts in zip(strengths, shares, losses, strict=True))


def _left_out(residual: Tensor, points: Tensor, shrunk: Tensor, count: int) -> Tensor:
    """(G, S, m, K) residuals of fits without each group, from those of the fit with all of the `count` images."""
    if points.shape[1] == 1:
        own = (points[:, 0].square() @ shrunk.T + 1) / count  # (G, S)
        return residual / (1 - own)[:, :, None, None]
    own = torch.stack([(points * one) @ points.transpose(1, 2) for one in shrunk], dim=1)  # (G, S, m, m)
    return torch.linalg.solve(torch.eye(points.shape[1]).to(own) - (own + 1) / count, residual)


def _groups(train: LabelledFeatures, numbers: int) -> Iterator[Tensor]:
    """(G, m) images of groups with m members each, every image once, where an image needs memory for `numbers`."""
    if train.groups is None:
        single = torch.arange(len(train), device=train.labels.device)[:, None]
        yield from torch.split(single, max(1, _AT_ONCE // numbers))
        return
    _, inverse, sizes = torch.unique(train.groups, return_inverse=True, return_counts=True)
    order = inverse.argsort(stable=True)
    for size in sizes.unique().tolist():
        members = order[sizes[inverse[order]] == size].view(-1, size)
        yield from torch.split(members, max(1, _AT_ONCE // (numbers * size * size)))
