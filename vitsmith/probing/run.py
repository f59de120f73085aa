"""A probe from labelled images to a run: features of each model in one pass, scores, and the bundle of the best.

N training images, M held-out ones, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from vitsmith.arguments import Tell
from vitsmith.data.sets.samples import Splits
from vitsmith.data.sets.split_record import SplitRecord
from vitsmith.errors import DatasetError, InputError, Interrupted, about, bare
from vitsmith.probing.bundle import HeldOut, make_bundle, write_checked
from vitsmith.probing.classifiers.steps import Watch, watch_nothing
from vitsmith.probing.features import FrozenFeatures
from vitsmith.probing.one_model import Done, NamedModel, ProbeSettings, Probing, probe_one
from vitsmith.probing.result import Failed, Probed
from vitsmith.probing.zero_shot import check_words
from vitsmith.runs.folder import MARKS
from vitsmith.runs.place import write_or_rescue
from vitsmith.runs.run import whole_run
from vitsmith.weights.bundle.folder import read_bundle

MODEL = "model"
"""The folder of the bundle in that of a run."""


def probe_to(
    target: Path,
    candidates: Sequence[NamedModel],
    splits: Splits,
    data: str,
    settings: ProbeSettings | None = None,
    *,
    watch: Watch = watch_nothing,
    tell: Tell = lambda _: None,
) -> Probed:
    """Probes the models on the training images of `splits`, scores them on the held-out ones, and writes a run.

    The run at `target` has probe.json and, in `model`, the bundle of the best model with torch weights. `data` is the
    name of the data set. A model that cannot be probed is listed with the reason; where none can, its error is raised.
    `Probed.require` raises GateError where the bundle was refused.

    Raises DatasetError for more unreadable images than allowed and for images that are replaced meanwhile, InputError
    for training images that teach nothing, and what loading a model raises.
    """
    probing = Probing(splits, data, settings or ProbeSettings(), watch, tell)
    if probing.settings.words.words is not None:
        check_words(probing.settings.words.words, splits.classes)
    done, failed = _probe_all(probing, candidates)
    best, bundled = max(done, key=_rank), _bundled(done)
    result = Probed(
        data,
        splits.classes,
        train_images=len(bundled.train),
        held_out_images=len(bundled.held_out),
        models=tuple(one.probed for one in done),
        failed=failed,
        best=best.probed,
        remarks=_remarks(probing, done),
    )
    return write_or_rescue(target, lambda place: _write(place, result, bundled, probing))


def _remarks(probing: Probing, done: Sequence[Done]) -> tuple[str, ...]:
    """What is true of the images of every model: those left out, and copies on both sides."""
    one, splits = _bundled(done), probing.splits
    told = []
    for samples, features, what in ((splits.train, one.train, "training"), (splits.val, one.held_out, "held-out")):
        if missing := sorted(set(range(len(samples))) - set(features.indices.tolist())):
            told.append(
                f"{len(missing):,} of the {len(samples):,} {what} images cannot be read and are left out, the first: "
                f"{samples.names[missing[0]]}"
            )
    told += _copies(splits, one)
    asked = probing.settings.words
    if (asked.words is not None or asked.templates is not None) and not any(other.reads_text for other in done):
        told.append("labels and templates are for models that read texts, and none of these does: they are not used")
    return tuple(told)


def _copies(splits: Splits, one: Done) -> list[str]:
    """What to know about images with the same content: they have other labels, are held out, or lie on both sides.

    Those with other labels are no leak: a model that learned one of them answers the other wrongly.
    """
    sides = (splits.train, one.train), (splits.val, one.held_out)
    by_content: dict[bytes, list[tuple[int, str, np.uint64]]] = {}
    for samples, features in sides:
        places, labels = features.indices.tolist(), features.labels.tolist()
        for index, content, label, digest in zip(places, features.contents, labels, features.digests, strict=True):
            by_content.setdefault(content, []).append((label, samples.names[index], digest))
    differing = [copies for copies in by_content.values() if len({label for label, _, _ in copies}) > 1]
    told = []
    if differing:
        label, name, _ = differing[0][0]
        other, copy, _ = next(one for one in differing[0] if one[0] != label)
        told.append(
            f"{sum(map(len, differing)):,} of the {sum(len(features) for _, features in sides):,} images are the same "
            f"files as images of another class: {name} is in {splits.classes[label]!r} and {copy} in "
            f"{splits.classes[other]!r}, so no answer is right for both: keep the copy with the right label"
        )
    images = list(zip(one.held_out.contents, one.held_out.labels.tolist(), strict=True))
    if twice := len(images) - len(set(images)):
        told.append(
            f"{twice:,} of the {len(images):,} held-out images are copies of others: accuracy counts every file, and "
            "intervals count copies as one image"
        )
    known = np.setdiff1d(one.record.train, np.array([copies[0][2] for copies in differing], np.uint64))
    return told + replace(one.record, train=known, earlier=SplitRecord.empty().earlier).leaks("")


def _probe_all(probing: Probing, candidates: Sequence[NamedModel]) -> tuple[list[Done], tuple[Failed, ...]]:
    """Probes one model after the other. Only the best stays in memory."""
    done: list[Done] = []
    failed: list[tuple[Failed, Exception]] = []
    for candidate in candidates:
        try:
            one = probe_one(probing, candidate)
        except (DatasetError, Interrupted):
            raise
        except (InputError, MemoryError, RuntimeError) as error:  # torch raises RuntimeError where memory ends
            told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            told = bare(candidate.name, told)
            failed.append((Failed(candidate.name, told), error))
            if len(candidates) > 1:
                probing.tell(f"warning: left out: {about(candidate.name, told)}")
            continue
        if done:
            _check_same_images(probing.splits, done[0], one)
        done.append(one)
        _forget_weights(done)
    if not done:
        for _, reason in failed:
            if len(failed) == 1 or not isinstance(reason, InputError):
                raise reason
        raise InputError("; ".join(about(one.name, one.reason) for one, _ in failed))
    return done, tuple(one for one, _ in failed)


def _check_same_images(splits: Splits, first: Done, other: Done) -> None:
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


def _rank(one: Done) -> tuple[bool, float]:
    """Cross-validation decides, but among models that have not seen the training images before: of the others it tells
    what they remember."""
    return not one.probed.seen, one.probed.cross_validated or 0.0


def _bundled(done: Sequence[Done]) -> Done:
    """The model that a bundle is made of: the best with torch weights; of exported programs alone the best."""
    return max(done, key=lambda one: (one.torch, *_rank(one)))


def _forget_weights(done: list[Done]) -> None:
    """Frees the memory of all but the one that a bundle may be made of."""
    kept = _bundled(done)
    done[:] = [one if one is kept else one.beaten() for one in done]


def _write(place: Path, result: Probed, bundled: Done, probing: Probing) -> Probed:
    with whole_run(place) as run:
        result = _with_bundle(result, bundled, probing, run.folder / MODEL)
        facts = result.to_dict()
        if result.bundle is not None:
            facts["bundle"] = str(place / MODEL)
        run.write_json(MARKS["probe"], facts)
    written = None if result.bundle is None else read_bundle(place / MODEL, verify=False)
    return replace(result, folder=place, bundle=written)


def _with_bundle(result: Probed, bundled: Done, probing: Probing, folder: Path) -> Probed:
    """The result with the bundle of the best model that can have one, in `folder`, or why there is none."""
    if not probing.settings.bundle:
        return result
    backbone, head = bundled.backbone, bundled.head
    assert backbone is not None
    if not backbone.torch:
        return replace(
            result,
            no_bundle=f"{backbone.name} is an exported program, to which no head can be added: the scores are all "
            "there is; probe the bundle that it was exported from for a model",
        )
    values = backbone.part(bundled.held_out.values, head.kind)
    held_out = HeldOut(probing.splits.val, bundled.held_out, values, probing.data)
    notes = (*result.remarks, *bundled.doubts)
    with probing.watch("comparing the bundle with the probe", held_out.gate_images, "images") as on_step:
        made = make_bundle(backbone, head, held_out, bundled.record, notes)
        gated = write_checked(made, folder, backbone, head, held_out, on_step)
    result = replace(result, gated=gated, bundle=gated.bundle, bundled=bundled.probed)
    if result.best is bundled.probed:
        return result
    told = (
        f"{result.best.name} is the best, and an exported program, to which no head can be added: the bundle is of "
        f"{bundled.probed.name}, the best of those with weights"
    )
    return replace(result, remarks=(*result.remarks, told))
