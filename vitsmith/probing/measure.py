"""From the features of one model to the scores of every method, and the head of its bundle.

N training images, M held-out ones, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vitsmith.arguments import Tell
from vitsmith.errors import DatasetError, InputError, bare
from vitsmith.probing.backbone import Backbone
from vitsmith.probing.bundle import Head
from vitsmith.probing.classifiers.choice import Choice, FittedProbe
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.linear import LinearProbe, PrincipalAxes, principal_axes
from vitsmith.probing.classifiers.logistic import fit_logistic
from vitsmith.probing.classifiers.neighbours import fit_neighbours
from vitsmith.probing.classifiers.prototypes import DRAWS, FewShot, score_few_shot
from vitsmith.probing.classifiers.ridge import fit_ridge
from vitsmith.probing.classifiers.scores import MethodScore, score_answers, score_probe
from vitsmith.probing.classifiers.steps import OnStep, Watch, watch_nothing
from vitsmith.probing.features import FrozenFeatures
from vitsmith.probing.kinds import Kind
from vitsmith.probing.shots import SHOTS
from vitsmith.probing.zero_shot import WordsAsked, answer_in_words


@dataclass(frozen=True, kw_only=True)
class Methods:
    """How features are scored."""

    classes: tuple[str, ...]
    shots: tuple[int, ...] = SHOTS
    """Training images of each class whose mean stands for it."""
    seed: int = 0
    words: WordsAsked
    cache: bool = True
    """Whether embeddings of words are kept."""


@dataclass(frozen=True, eq=False)
class ModelScores:
    """The scores of one model, and its head."""

    head: Head
    scores: tuple[MethodScore, ...]
    shots: tuple[FewShot, ...]
    choice: Choice
    validated: dict[Kind, float | None]
    """Accuracy of the logistic probe in cross-validation, for each kind of features that was tried."""
    warnings: tuple[str, ...]
    """What of zero-shot is left out or was not read as it is written."""
    remarks: tuple[str, ...]


def measure(
    backbone: Backbone,
    train: FrozenFeatures,
    held_out: FrozenFeatures,
    methods: Methods,
    watch: Watch = watch_nothing,
) -> ModelScores:
    """Fits every method to the training features, and scores it on the held-out ones.

    Where there are several kinds of features, cross-validation of the logistic probe chooses the one of all methods.
    Raises DatasetError where no image of one side can be read, and InputError where nothing can be learned.
    """
    for features, what in ((train, "training"), (held_out, "held-out")):
        if not len(features):
            raise DatasetError(f"there are no {what} images that can be read")
    fitted, validated = _fit_logistic(backbone, train, methods, watch)
    images, kind = fitted.images, fitted.kind
    labels = held_out.labels.tolist()
    groups = copy_groups(list(zip(held_out.contents, labels, strict=True)))
    queries = _labelled(backbone, held_out, kind, methods, groups)
    scores = _score_all(backbone.name, fitted, queries, watch)
    warnings: list[str] = []
    if backbone.reads_text:
        scores += _in_words(backbone, held_out, queries, methods, warnings.append, watch)
    shots: tuple[FewShot, ...] = ()
    if methods.shots:
        with watch(f"{backbone.name}: class means", DRAWS * len(methods.shots), "draws") as on_step:
            shots = score_few_shot(images, queries, shots=methods.shots, seed=methods.seed, on_step=on_step)
    logistic = fitted.logistic
    told = f"head: logistic probe on {kind} features of {len(train):,} images, {logistic.choice}"
    return ModelScores(
        head=Head(kind, logistic.head.weight, logistic.head.bias, told),
        scores=tuple(scores),
        shots=shots,
        choice=logistic.choice,
        validated=validated,
        warnings=tuple(warnings),
        remarks=(*(f"{one.method}: {told}" for one in scores for told in one.remarks), *_short(shots, methods)),
    )


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Training features of one kind, and the logistic probe on them."""

    kind: Kind
    images: LabelledFeatures
    axes: PrincipalAxes
    logistic: LinearProbe

    @property
    def rank(self) -> tuple[float, float]:
        """Accuracy in cross-validation, then loss."""
        choice = self.logistic.choice
        chosen = next((one for one in choice.tried if one.value == choice.value), None)
        if chosen is None:
            return 0.0, 0.0
        return chosen.accuracy or 0.0, -(chosen.loss or 0.0)


def _fit_logistic(
    backbone: Backbone, train: FrozenFeatures, methods: Methods, watch: Watch
) -> tuple[_Fitted, dict[Kind, float | None]]:
    """The best kind of features in cross-validation, and the accuracy of each."""
    groups, best, validated = copy_groups(train.contents), None, dict[Kind, float | None]()
    for kind in backbone.kinds:
        images = _labelled(backbone, train, kind, methods, groups)
        of = f" of {kind}" if len(backbone.kinds) > 1 else ""
        with watch(f"{backbone.name}: principal axes{of}", 0, ""):
            axes = principal_axes(images)
        with watch(f"{backbone.name}: logistic regression{of}", 0, "iterations") as on_step:
            logistic = fit_logistic(images, axes=axes, seed=methods.seed, on_step=on_step)
        found = _Fitted(kind, images, axes, logistic)
        validated[kind] = accuracy_of(logistic.choice)
        best = found if best is None or found.rank > best.rank else best
    assert best is not None
    return best, validated


def _score_all(name: str, fitted: _Fitted, queries: LabelledFeatures, watch: Watch) -> list[MethodScore]:
    """The scores of k-NN, ridge and the logistic probe."""
    images, scores = fitted.images, list[MethodScore]()
    fits: tuple[tuple[str, Callable[[OnStep], FittedProbe]], ...] = (
        ("k-NN", lambda on_step: fit_neighbours(images, on_step=on_step)),
        ("ridge", lambda on_step: fit_ridge(images, axes=fitted.axes, on_step=on_step)),
    )
    for method, fit in fits:
        with watch(f"{name}: {method}", len(images) + len(queries), "images") as on_step:
            scores.append(score_probe(fit(on_step), queries, on_step))
    return [*scores, score_probe(fitted.logistic, queries)]


def _short(shots: Sequence[FewShot], methods: Methods) -> tuple[str, ...]:
    """What to know about few shots: numbers that no class has, and classes that have fewer."""
    told = []
    if left_out := sorted(set(methods.shots) - {one.shots for one in shots}):
        told.append(f"no class has {left_out[0]} training images: larger numbers of shots are left out")
    if short := next((one for one in shots if one.short_classes), None):
        named = repr(methods.classes[short.short_classes[0]])
        told.append(
            f"{len(short.short_classes)} classes, the first {named}, have fewer than {short.shots} images: all are used"
        )
    return tuple(told)


def accuracy_of(choice: Choice) -> float | None:
    """The accuracy in cross-validation of the value that was chosen; None where no image was left out."""
    return next((one.accuracy for one in choice.tried if one.value == choice.value), None)


def _labelled(
    backbone: Backbone, features: FrozenFeatures, kind: Kind, methods: Methods, groups: Tensor | None = None
) -> LabelledFeatures:
    return LabelledFeatures(backbone.part(features.values, kind), features.labels, len(methods.classes), groups)


def copy_groups(contents: Sequence[Hashable]) -> Tensor | None:
    """(N,) a number that copies of one file share: they lie in one fold and count once; None where there are none."""
    first: dict[Hashable, int] = {}
    groups = [first.setdefault(content, at) for at, content in enumerate(contents)]
    return torch.tensor(groups) if len(first) < len(groups) else None


def _in_words(
    backbone: Backbone,
    held_out: FrozenFeatures,
    queries: LabelledFeatures,
    methods: Methods,
    tell: Tell,
    watch: Watch,
) -> list[MethodScore]:
    """The score of zero-shot; [] where the model cannot answer, which is told."""
    try:
        answers = answer_in_words(
            backbone,
            held_out.values,
            methods.classes,
            methods.words,
            cache=methods.cache,
            tell=tell,
            watch=watch,
        )
    except InputError as error:
        tell(f"zero-shot is left out: {bare(backbone.name, str(error))}")
        return []
    return [score_answers("zero-shot", answers, queries)]
