"""Scores frozen features of checkpoints on a user's images: each image once through a model, each answered once.

N images, D features. The features, k-NN and ridge are those of `vitsmith probe`; five folds take the place of held-out
images, so that of a thousand images all count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.arguments import Tell
from vitsmith.choosing.own_images.result import OwnAccuracies, Scored
from vitsmith.choosing.own_images.sample import MOST_IMAGES, Unusable, labelled_sample
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import DatasetError, InputError, Interrupted
from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import flops
from vitsmith.probing.backbone import Backbone
from vitsmith.probing.classifiers.choice import FittedProbe
from vitsmith.probing.classifiers.folds import ALWAYS_TRAINED, make_folds
from vitsmith.probing.classifiers.labelled import LabelledFeatures
from vitsmith.probing.classifiers.neighbours import fit_neighbours
from vitsmith.probing.classifiers.ridge import fit_ridge
from vitsmith.probing.classifiers.steps import Watch, watch_nothing
from vitsmith.probing.feature_cache import FeatureCache
from vitsmith.probing.features import FrozenFeatures, PassOptions, extract
from vitsmith.probing.measure import copy_groups
from vitsmith.weights.load import load

FOLDS = 5
_SALT = bytes(16)  # of digests, which nobody keeps here


class NamedCheckpoint(Protocol):
    """What is known of a checkpoint before it is loaded."""

    @property
    def source(self) -> str:
        """What `vitsmith.load` takes."""

    @property
    def name(self) -> str: ...

    @property
    def config(self) -> ModelConfig: ...


def accuracy_on(
    data: DataSpec,
    checkpoints: Sequence[NamedCheckpoint],
    *,
    most: int = MOST_IMAGES,
    seed: int = 0,
    is_here: Callable[[NamedCheckpoint], object] = lambda _: True,
    cache: bool = True,
    watch: Watch = watch_nothing,
    tell: Tell = lambda _: None,
) -> OwnAccuracies:
    """k-NN and ridge on the features of each checkpoint, on at most `most` of the labelled images of `data`.

    Small models come first. Checkpoints for which `is_here` is false are left out and named; the others are loaded,
    which may fetch them. A checkpoint that cannot be scored is listed with the reason. Where the data cannot score any,
    the result says why and has no rows. Features are kept in the cache of `vitsmith probe`: what was computed is not
    computed again after Ctrl-C.

    Raises DatasetError where there are no data, for too many unreadable images, and for images replaced meanwhile.
    """
    images = labelled_sample(data, most, seed=seed)
    here = sorted((one for one in checkpoints if is_here(one)), key=lambda one: flops(one.config))
    unfetched = tuple(one.name for one in checkpoints if one not in here)
    if isinstance(images, Unusable):
        return _none(data.path, images.told, unfetched)
    if not here:
        told = "no weights of these candidates are on this machine, `download` fetches them: published accuracy ranks"
        return _none(data.path, told, unfetched)
    scoring = _Scoring(data.path, images, seed, cache, watch, tell)
    for one in here:
        scoring.add(one)
    return scoring.result(unfetched)


class _Scoring:
    """Scores one checkpoint after the other on the same images."""

    def __init__(self, data: str, images: Samples, seed: int, cache: bool, watch: Watch, tell: Tell) -> None:
        self._data, self._images, self._seed = data, images, seed
        self._cache, self._watch, self._tell = cache, watch, tell
        self._rows: list[Scored] = []
        self._failed: list[tuple[str, str]] = []
        self._first: tuple[FrozenFeatures, LabelledFeatures, Tensor] | None = None

    def add(self, candidate: NamedCheckpoint) -> None:
        """Scores a checkpoint, or notes why it cannot be. Raises DatasetError."""
        began = time.perf_counter()
        try:
            backbone = Backbone.of(load(candidate.source, headless=None), candidate.name, features="pooled")
            found = self._features(backbone)
            values = backbone.part(found.values, "pooled")
            groups = copy_groups(found.contents)
            labelled = LabelledFeatures(values, found.labels, len(self._images.classes), groups)
            folds = make_folds(labelled, FOLDS, seed=self._seed)
            self._check_same(found, labelled, folds)
            neighbours, ridge = (_right(fit, labelled, folds) for fit in (fit_neighbours, fit_ridge))
        except (DatasetError, Interrupted):
            raise
        except (InputError, MemoryError, RuntimeError) as error:  # torch raises RuntimeError where memory ends
            self._failed.append((candidate.name, str(error)))
            return
        row = Scored(candidate.source, candidate.name, neighbours, ridge, time.perf_counter() - began)
        self._rows.append(row)
        self._tell(f"{row.name}: {row.accuracy:.1%} on {len(neighbours):,} images, {row.seconds:.0f} s")

    def result(self, unfetched: tuple[str, ...]) -> OwnAccuracies:
        """All that was scored."""
        if self._first is None or not self._rows:
            told = "no candidate could be scored on these images: published accuracy ranks"
            return _none(self._data, told, unfetched, self._failed)
        found, labelled, folds = self._first
        scored = (folds != ALWAYS_TRAINED).numpy()
        labels = found.labels.numpy()[scored]
        counts = np.bincount(labels)
        groups = np.arange(len(folds)) if labelled.groups is None else labelled.groups.numpy()
        return OwnAccuracies(
            self._data,
            images=len(labels),
            classes=int((counts > 0).sum()),
            chance=float(counts.max() / len(labels)),
            groups=groups[scored],
            rows=tuple(self._rows),
            failed=tuple(self._failed),
            unfetched=unfetched,
            seed=self._seed,
        )

    def _features(self, backbone: Backbone) -> FrozenFeatures:
        engine = backbone.opener()
        kept = FeatureCache(backbone.cache_name(engine), self._tell) if self._cache else None
        with self._watch(f"{backbone.name}: features", len(self._images), "images") as on_image:
            reading = PassOptions(_SALT, skip_unreadable=SHARE, tell=self._tell, on_image=on_image)
            return extract(self._images, backbone.spec, engine, reading, kept)

    def _check_same(self, found: FrozenFeatures, labelled: LabelledFeatures, folds: Tensor) -> None:
        self._first = self._first or (found, labelled, folds)
        if found.contents != self._first[0].contents:
            raise DatasetError(f"images of {self._data} were replaced while models were scored: run it again")


def _none(data: str, told: str, unfetched: tuple[str, ...], failed: Sequence[tuple[str, str]] = ()) -> OwnAccuracies:
    return OwnAccuracies(data, 0, 0, 0.0, np.empty(0, np.int64), (), tuple(failed), unfetched, instead=told)


def _right(
    fit: Callable[[LabelledFeatures], FittedProbe], labelled: LabelledFeatures, folds: Tensor
) -> NDArray[np.bool_]:
    """(M,) whether a probe that is fitted to the other folds answers each image correctly, of those ever left out."""
    answers = folds.new_full(folds.shape, ALWAYS_TRAINED)
    for fold in range(FOLDS):
        out = folds == fold
        if out.any():
            groups = None if labelled.groups is None else labelled.groups[~out]
            train = LabelledFeatures(labelled.features[~out], labelled.labels[~out], labelled.classes, groups)
            answers[out] = fit(train).classify(labelled.features[out])
    right: NDArray[np.bool_] = (answers == labelled.labels)[folds != ALWAYS_TRAINED].numpy()
    return right
