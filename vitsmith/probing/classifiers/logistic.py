"""Multinomial logistic regression on standardised features, regularised by cross-validation.

N training images, R principal axes, K classes with images, F folds.
"""

from __future__ import annotations

import torch

from vitsmith.errors import InputError
from vitsmith.probing.classifiers.choice import UNCHOSEN, Choice, Tried
from vitsmith.probing.classifiers.folds import ALWAYS_TRAINED, make_folds
from vitsmith.probing.classifiers.labelled import LabelledFeatures, require_for_fitting
from vitsmith.probing.classifiers.linear import LinearProbe, PrincipalAxes, principal_axes
from vitsmith.probing.classifiers.steps import OnStep, unwatched
from vitsmith.probing.classifiers.strengths import Problem, StrengthSearch

_UNCHOSEN = 1e-2  # where no image can be left out
_FINE = 1e-7  # what may still be gained in the end, relative to the objective


def fit_logistic(
    train: LabelledFeatures,
    *,
    axes: PrincipalAxes | None = None,
    folds: int = 5,
    seed: int = 0,
    strength: float | None = None,
    deadline: float = float("inf"),
    on_step: OnStep = unwatched,
) -> LinearProbe:
    """Least mean cross-entropy + strength / 2 * |weights|^2, with the strength of least log-loss on images left out.

    `strength` is 1 / (C N) of scikit-learn, of features with deviation 1; the bias is not penalised. Given, it is
    taken as it is. Otherwise it is chosen by cross-validation in `folds`, made with `seed`: from 1 down by tens while
    the log-loss is not certainly worse, up where 1 is the best, and then half a ten to each side of the best. What is
    worse by 3 standard errors of the difference, image by image, is certain, and its other folds are left out. Losses
    that differ by less than 1e-4 are equal, and of equal ones the strongest regularisation is taken. Each fit begins
    where the last one ended. As in scikit-learn, a fold has the same C as all images, and features are standardised by
    all training images, those left out included.

    After `deadline`, a time of `perf_counter`, no strength is tried any more, and fits are cut short; the choice says
    so. `on_step` is called after each iteration, with strength and fold. `axes` are those of `train`, where they are
    there already. Neither the inputs nor torch's random state are changed.

    Raises InputError for fewer than 3 images, for one class, and for a strength that is not above 0.
    """
    require_for_fitting(train)
    if strength is not None and not strength > 0:
        raise InputError(f"`strength` is {strength}: give a number above 0")
    with torch.no_grad():
        placed = make_folds(train, folds, seed=seed) if strength is None else None
        remarks = list[str]()
        if placed is not None and (placed == ALWAYS_TRAINED).all():
            placed, strength = None, _UNCHOSEN
            remarks.append(UNCHOSEN.format(what="strength", value=_UNCHOSEN))
        problem = Problem.of(train, axes or principal_axes(train), placed, deadline, on_step)
        start, tried = problem.zeros(1), tuple[Tried, ...]()
        if strength is None:
            search = StrengthSearch(problem)
            strength, start = search.run()
            tried, remarks = search.tried(), search.remarks()
        every = torch.full((1,), ALWAYS_TRAINED, device=problem.folds.device)
        found = problem.fit(every, strength, start, _FINE, f"regularisation {strength:.3g}, all images")
    if not found.converged:
        remarks.append(f"the last fit stopped before its optimum, after {found.iterations} iterations")
    weight, bias = found.weight[:-1, 0], found.weight[-1, 0]
    head = problem.axes.head(weight, bias, problem.present, train.classes)
    return LinearProbe("logistic", head, Choice("strength", strength, tried, tuple(remarks)))
