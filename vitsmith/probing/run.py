"""A probe from labelled images to a run: features of each model in one pass, scores, and the bundle of the best.

N training images, M held-out ones, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vitsmith.arguments import Tell
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.samples import Splits
from vitsmith.data.sets.split_record import Digests, SplitRecord
from vitsmith.errors import DatasetError, InputError, Interrupted
from vitsmith.probing.backbone import Backbone, FeatureChoice
from vitsmith.probing.bundle import Head, HeldOut, make_bundle, write_checked
from vitsmith.probing.classifiers.prototypes import SHOTS
from vitsmith.probing.feature_cache import FeatureCache
from vitsmith.probing.features import FrozenFeatures, PassOptions, extract
from vitsmith.probing.measure import Methods, accuracy_of, measure
from vitsmith.probing.result import Failed, ModelProbe, Probed
from vitsmith.probing.zero_shot import WordsAsked, check_words
from vitsmith.runs.folder import MARKS
from vitsmith.runs.place import write_or_rescue
from vitsmith.runs.run import whole_run
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle

MODEL = "model"
"""The folder of the bundle in that of a run."""

Watch = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Given what is done and the number of its steps, gives what is called after each of them while it is done."""


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
class _Probing:
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
class _Done:
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

    def beaten(self) -> _Done:
        """The same without weights and features."""
        train, held_out = (replace(one, values=one.values[:0]) for one in (self.train, self.held_out))
        return replace(self, backbone=None, train=train, held_out=held_out)


def probe_to(
    target: Path,
    candidates: Sequence[NamedModel],
    splits: Splits,
    data: str,
    settings: ProbeSettings | None = None,
    *,
    watch: Watch = lambda *_: nullcontext(lambda: None),
    tell: Tell = lambda _: None,
) -> Probed:
    """Probes the models on the training images of `splits`, scores them on the held-out ones, and writes a run.

    The run at `target` has probe.json and, in `model`, the bundle of the best model by cross-validation. `data` is the
    name of the data set. A model that cannot be probed is listed with the reason; where none can, its error is raised.
    `Probed.require` raises GateError where the bundle was refused.

    Raises DatasetError for more unreadable images than allowed and for images that are replaced meanwhile, InputError
    for training images that teach nothing, and what loading a model raises.
    """
    probing = _Probing(splits, data, settings or ProbeSettings(), watch, tell)
    if probing.settings.words.words is not None:
        check_words(probing.settings.words.words, splits.classes)
    done, failed = _probe_all(probing, candidates)
    best = _best(done)
    train, held_out = len(best.train), len(best.held_out)
    models = tuple(one.probed for one in done)
    assert best.backbone is not None
    leaks = tuple(best.record.leaks(best.backbone.bundle.where))
    result = Probed(data, splits.classes, train, held_out, models, failed, best.probed, remarks=leaks)
    return write_or_rescue(target, lambda place: _write(place, result, best, probing, leaks))


def _probe_all(probing: _Probing, candidates: Sequence[NamedModel]) -> tuple[list[_Done], tuple[Failed, ...]]:
    """Probes one model after the other. Only the best stays in memory."""
    done: list[_Done] = []
    failed: list[tuple[Failed, InputError]] = []
    for candidate in candidates:
        try:
            one = _probe(probing, candidate)
        except (DatasetError, Interrupted):
            raise
        except InputError as error:
            failed.append((Failed(candidate.name, str(error)), error))
            if len(candidates) > 1:
                probing.tell(f"{candidate.name} is left out: {error}")
            continue
        if done:
            _check_same_images(probing.splits, done[0], one)
        done.append(one)
        _forget_weights(done)
    if not done:
        if len(failed) == 1:
            raise failed[0][1]
        raise InputError("; ".join(f"{one.name}: {one.reason}" for one, _ in failed))
    return done, tuple(one for one, _ in failed)


def _probe(probing: _Probing, candidate: NamedModel) -> _Done:
    settings, tell = probing.settings, probing.tell
    tell_of: Tell = lambda message: tell(f"{candidate.name}: {message}")  # noqa: E731
    bundle = candidate.load()
    backbone = Backbone.of(
        bundle,
        candidate.name,
        features=settings.features,
        engine=settings.engine,
        precision=settings.precision,
    )
    record = _began(bundle, tell_of)
    engine = backbone.opener()
    cache = FeatureCache(backbone.cache_name(engine), tell_of) if settings.cache else None
    parts = probing.splits.train, probing.splits.val
    with probing.watch(f"features of {candidate.name}", sum(map(len, parts))) as on_image:
        reading = PassOptions(record.salt, settings.batch_size, settings.skip_unreadable, tell, on_image)
        train, held_out = (extract(part, backbone.spec, engine, reading, cache) for part in parts)
    _tell_pass(train, held_out, tell_of)
    began = time.perf_counter()
    with probing.watch(f"fitting on {candidate.name}", 0):
        measured = measure(backbone, train, held_out, probing.methods, tell_of)
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
        remarks=measured.remarks,
        cached=train.cached + held_out.cached,
        seconds=train.seconds + held_out.seconds,
        fitting_seconds=time.perf_counter() - began,
    )
    record = replace(record, train=_distinct(train), held_out=_distinct(held_out))
    return _Done(backbone, backbone.torch, train, held_out, measured.head, probed, record)


def _began(bundle: Bundle, tell: Tell) -> SplitRecord:
    """The record of a model's images with the training images of the model it begins from."""
    if bundle.split is not None:
        return bundle.split.as_parent()
    if not bundle.trained_here:
        return SplitRecord.empty()
    tell("it does not record its training images: held-out images may be among them")
    return SplitRecord.empty(complete=False)


def _distinct(features: FrozenFeatures) -> Digests:
    return np.unique(features.digests)


def _tell_pass(train: FrozenFeatures, held_out: FrozenFeatures, tell: Tell) -> None:
    count, cached = len(train) + len(held_out), train.cached + held_out.cached
    if cached == count:
        tell(f"features of all {count:,} images were in the cache: the model did not run")
    elif cached:
        tell(f"features of {cached:,} of {count:,} images were in the cache")


def _check_same_images(splits: Splits, first: _Done, other: _Done) -> None:
    """Raises DatasetError where the images of two models differ: one was replaced, or could no longer be read."""
    for samples, mine, its in (
        (splits.train, first.train, other.train),
        (splits.val, first.held_out, other.held_out),
    ):
        if mine.contents == its.contents:
            continue
        index = _first_difference(mine, its)
        raise DatasetError(
            f"{samples.names[index]} was replaced or removed while the models were probed, so they cannot be compared: "
            "run it again, features that were computed are in the cache"
        )


def _first_difference(mine: FrozenFeatures, its: FrozenFeatures) -> int:
    known, others = (dict(zip(one.indices.tolist(), one.contents, strict=True)) for one in (mine, its))
    return min(index for index in known.keys() | others.keys() if known.get(index) != others.get(index))


def _rank(one: _Done) -> tuple[bool, float]:
    """Bundles are made from torch weights, so these come first; then cross-validation decides."""
    return one.torch, one.probed.cross_validated or 0.0


def _best(done: Sequence[_Done]) -> _Done:
    return max(done, key=_rank)


def _forget_weights(done: list[_Done]) -> None:
    """Frees the memory of all but the best."""
    best = _best(done)
    done[:] = [one if one is best else one.beaten() for one in done]


def _write(place: Path, result: Probed, best: _Done, probing: _Probing, leaks: Sequence[str]) -> Probed:
    with whole_run("probe", place.name, place) as (run, _):
        result = _with_bundle(result, best, probing, leaks, run.folder / MODEL)
        facts = result.to_dict()
        if result.bundle is not None:
            facts["bundle"] = str(place / MODEL)
        run.write_json(MARKS["probe"], facts)
    written = None if result.bundle is None else read_bundle(place / MODEL, verify=False)
    return replace(result, folder=place, bundle=written)


def _with_bundle(result: Probed, best: _Done, probing: _Probing, leaks: Sequence[str], folder: Path) -> Probed:
    """The result with the bundle of the best model, in `folder`, or why there is none."""
    if not probing.settings.bundle:
        return result
    backbone, head = best.backbone, best.head
    assert backbone is not None
    if not backbone.torch:
        return replace(
            result,
            no_bundle=f"{backbone.name} is an exported program, to which no head can be added: the scores are all "
            "there is; probe the bundle that it was exported from for a model",
        )
    values = backbone.part(best.held_out.values, head.kind)
    held_out = HeldOut(probing.splits.val, best.held_out, values, probing.data)
    with probing.watch("comparing the bundle with the probe", 0):
        made = make_bundle(backbone, head, held_out, best.record, leaks)
        gated = write_checked(made, folder, backbone, head, held_out)
    return replace(result, gated=gated, bundle=gated.bundle)
