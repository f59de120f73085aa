"""One model of a probe: its features in one pass, its scores, and what it knew of the images before."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from vitsmith.arguments import Tell
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.samples import Splits
from vitsmith.data.sets.split_record import Digests, SplitRecord, leak
from vitsmith.errors import about
from vitsmith.probing.backbone import Backbone
from vitsmith.probing.bundle import Head
from vitsmith.probing.classifiers.steps import Watch
from vitsmith.probing.feature_cache import FeatureCache
from vitsmith.probing.features import FrozenFeatures, PassOptions, extract
from vitsmith.probing.kinds import FeatureChoice
from vitsmith.probing.measure import Methods, accuracy_of, measure
from vitsmith.probing.result import ModelProbe
from vitsmith.probing.shots import SHOTS
from vitsmith.probing.zero_shot import WordsAsked
from vitsmith.weights.bundle.bundle import Bundle


@dataclass(frozen=True, kw_only=True)
class ProbeSettings:
    """How models are probed."""

    features: FeatureChoice = "auto"
    shots: tuple[int, ...] = SHOTS
    """Training images of each class whose mean stands for it."""
    seed: int = 0
    """Of the folds, and of which images the shots are."""
    engine: str = "auto"
    precision: str = "auto"
    batch_size: int = 32
    skip_unreadable: float = SHARE
    cache: bool = True
    """Whether features are kept for the next time, and taken from there."""
    bundle: bool = True
    """Whether a bundle of the best model is written."""
    words: WordsAsked = field(default_factory=WordsAsked)
    """What a model that reads texts is asked in zero-shot."""


@dataclass(frozen=True, eq=False)
class NamedModel:
    """A model to probe, and how it is loaded."""

    name: str
    """The name in tables and messages: as the user gave it."""
    load: Callable[[], Bundle]
    short: str
    """The name in that of the run."""


@dataclass(frozen=True, eq=False)
class Probing:
    """What all models of a probe share."""

    splits: Splits
    data: str
    settings: ProbeSettings
    watch: Watch
    tell: Tell

    @property
    def methods(self) -> Methods:
        """How features are scored."""
        settings = self.settings
        return Methods(
            classes=self.splits.classes,
            shots=settings.shots,
            seed=settings.seed,
            words=settings.words,
            cache=settings.cache,
        )


@dataclass(frozen=True, eq=False)
class Done:
    """One probed model, with what its bundle is made of."""

    backbone: Backbone | None
    """None once another model is better: its weights are not needed any more."""
    torch: bool
    """Whether a bundle can be made of it."""
    train: FrozenFeatures
    held_out: FrozenFeatures
    head: Head
    probed: ModelProbe
    record: SplitRecord
    doubts: tuple[str, ...]
    """Why its numbers may be too good, for the notes of its bundle."""
    reads_text: bool

    def beaten(self) -> Done:
        """The same without weights and features."""
        train, held_out = (replace(one, values=one.values[:0]) for one in (self.train, self.held_out))
        return replace(self, backbone=None, train=train, held_out=held_out)


def probe_one(probing: Probing, candidate: NamedModel) -> Done:
    """The features and scores of a model. Raises what loading it raises, and as `extract` and `measure`."""
    settings, tell = probing.settings, probing.tell
    tell_of: Tell = lambda message: tell(about(candidate.name, message))  # noqa: E731
    bundle = candidate.load()
    backbone = Backbone.of(
        bundle,
        candidate.name,
        features=settings.features,
        engine=settings.engine,
        precision=settings.precision,
    )
    record = _began(bundle)
    engine = backbone.opener()
    cache = FeatureCache(backbone.cache_name(engine), tell_of) if settings.cache else None
    parts = probing.splits.train, probing.splits.val
    with probing.watch(f"{candidate.name}: features", sum(map(len, parts)), "images") as on_image:
        reading = PassOptions(record.salt, settings.batch_size, settings.skip_unreadable, tell, on_image)
        train, held_out = (extract(part, backbone.spec, engine, reading, cache) for part in parts)
    del cache  # it holds all features once more
    _tell_pass(train, held_out, tell_of)
    began = time.perf_counter()
    measured = measure(backbone, train, held_out, probing.methods, probing.watch)
    record = replace(record, train=_distinct(train), held_out=_distinct(held_out))
    doubts = _doubts(record, candidate.name)
    probed = ModelProbe(
        name=candidate.name,
        features=measured.head.kind,
        width=measured.head.weight.shape[1],
        engine=backbone.arithmetic(engine).split()[0],
        precision=backbone.arithmetic(engine).split()[-1],
        scores=measured.scores,
        shots=measured.shots,
        choice=measured.choice,
        cross_validated=accuracy_of(measured.choice),
        validated=measured.validated,
        seen=_seen(record),
        warnings=(*doubts, *measured.warnings),
        remarks=measured.remarks,
        cached=train.cached + held_out.cached,
        seconds=train.seconds + held_out.seconds,
        fitting_seconds=time.perf_counter() - began,
    )
    head, texts = measured.head, backbone.reads_text
    return Done(backbone, backbone.torch, train, held_out, head, probed, record, doubts, texts)


def _began(bundle: Bundle) -> SplitRecord:
    """The record of a model's images with the training images of the model it begins from."""
    if bundle.split is not None:
        return bundle.split.as_parent()
    return SplitRecord.empty(complete=not bundle.trained_here)


def _seen(record: SplitRecord) -> int:
    return len(np.intersect1d(record.train, record.earlier))


def _doubts(record: SplitRecord, name: str) -> tuple[str, ...]:
    """Why a model's numbers may be too good: images of either side that it was trained on, or may have been."""
    doubts = leak(record.held_out, record.earlier, "held-out", name)
    if seen := _seen(record):
        doubts.append(
            f"{seen:,} of the {len(record.train):,} training images are among those that {name} was trained on: its "
            "accuracy in cross-validation is too good, and models that were not trained on them are chosen before it"
        )
    if not record.complete:
        doubts.append(
            "it does not record its training images: those of this probe may be among them, and its scores too good"
        )
    return tuple(doubts)


def _distinct(features: FrozenFeatures) -> Digests:
    return np.unique(features.digests)


def _tell_pass(train: FrozenFeatures, held_out: FrozenFeatures, tell: Tell) -> None:
    count, cached = len(train) + len(held_out), train.cached + held_out.cached
    if cached == count:
        tell(f"features of all {count:,} images were in the cache: none was computed")
    elif cached:
        tell(f"features of {cached:,} of {count:,} images were in the cache")
