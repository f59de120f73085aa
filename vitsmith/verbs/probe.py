"""`vitsmith.probe`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.arguments import Tell, flag, instance, named_arguments, share, warn, whole_number
from vitsmith.arguments import path as argument_path
from vitsmith.data.images.unreadable import SHARE
from vitsmith.data.sets.datasets import DataSpec, find_source, open_dataset, open_part
from vitsmith.data.sets.samples import Splits
from vitsmith.data.sets.split_names import split_of
from vitsmith.errors import DatasetError, InputError, shown
from vitsmith.files.atomic import optional
from vitsmith.needs_torch import require_torch
from vitsmith.probing.classifiers.steps import Watch, watch_nothing
from vitsmith.probing.shots import SHOTS
from vitsmith.runs.place import place_of
from vitsmith.verbs.inputs import Model, check_data, described_data, run_name
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import assumed, load

if TYPE_CHECKING:
    from vitsmith.probing.one_model import NamedModel, ProbeSettings
    from vitsmith.probing.result import Probed
    from vitsmith.zeroshot.labels import GivenLabels, Words

SCORED = ("val", "test")
"""The parts of a data set that a probe is scored on."""


@named_arguments
def probe(
    data: str | os.PathLike[str] | DataSpec,
    model: Model | Sequence[Model],
    out: str | os.PathLike[str] | None = None,
    *,
    split: str = "",
    features: str = "auto",
    shots: Sequence[int] = SHOTS,
    labels: str | GivenLabels | None = None,
    templates: str | Iterable[str] | None = None,
    engine: str = "auto",
    precision: str = "auto",
    batch_size: int = 32,
    seed: int = 0,
    cache: bool = True,
    bundle: bool = True,
    skip_unreadable: float = SHARE,
    force: bool = False,
    tell: Tell = warn,
) -> Probed:
    """Scores frozen features of one or several models on a data set; the best becomes a classifier, `bundle`.

    Args:
        data: as for `train`; without a split of its own the same images are held out as there.
        model: a bundle, anything `vitsmith.load` takes, or a list of these.
        out: the folder of the run; default a new one below runs/probe.
        split: 'val' or 'test', the part of `data` to score on; default the held-out images.
        features: 'pooled', 'class_and_mean', or 'auto': for DINOv2 and DINOv3 both, and cross-validation chooses.
        shots: numbers of training images of each class whose mean stands for it.
        labels, templates: what a model with a text tower is asked, as for `ZeroShotClassifier`; one text holds labels
            separated by commas, or is a file of them. Default the names of the classes, and the model's own templates.
        engine, precision, batch_size: as for `Predictor`.
        seed: decides which images are held out, the folds, and the images of the shots.
        cache: keep the features for the next time, and take them from there.
        bundle: write a bundle of the best model by cross-validation among those with weights.
        skip_unreadable: share of images that may be unreadable. They are left out.
        force: replace an earlier run at `out`.
        tell: called with messages; by default only warnings are shown.

    `Probed.require` raises GateError where the bundle on disk answered otherwise than the probe, and so is not kept.
    Raises InputError, DatasetError, OutputError, MissingPackageError.
    """
    require_torch()
    from vitsmith.probing.one_model import NamedModel
    from vitsmith.zeroshot.labels import read_words, words_from

    models: list[Any] = [model] if isinstance(model, str | os.PathLike) or not isinstance(model, Sequence) else [*model]
    settings = probe_settings(
        features=features,
        shots=shots,
        seed=seed,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        skip_unreadable=skip_unreadable,
        cache=flag(cache, "cache"),
        bundle=flag(bundle, "bundle"),
        words=None if labels is None else read_words(labels) if isinstance(labels, str) else words_from(labels),
        templates=templates,
    )
    candidates = [NamedModel(_typed(one), partial(_loaded, one, tell), run_name(one)) for one in models]
    to = None if out is None else argument_path(out, "out")
    return run_probe(described_data(data), candidates, settings, split=split, out=to, force=force, tell=tell)


def run_probe(
    data: DataSpec,
    candidates: Sequence[NamedModel],
    settings: ProbeSettings,
    *,
    split: str = "",
    out: Path | None = None,
    force: bool = False,
    tell: Tell,
    watch: Watch = watch_nothing,
) -> Probed:
    """A probe and its report in a place that is reserved first: for `probe` and the command line."""
    from vitsmith.probing.run import probe_to

    if not candidates:
        raise InputError("there is no model to probe: give at least one with `model`")
    names = [one.name for one in candidates]
    candidates = [replace(one, name=_apart(names, at)) for at, one in enumerate(candidates)]
    name = f"{Path(data.path).stem}-{candidates[0].short}" if len(candidates) == 1 else Path(data.path).stem
    with place_of("probe", name, out, force=force) as target:
        check_data(data)
        splits = open_splits(data, split, seed=settings.seed, tell=tell)
        result = probe_to(target, candidates, splits, data.path, settings, tell=tell, watch=watch)
        with optional("the report"), watch("writing the report", 0, ""):
            from vitsmith.report.probe import write_report

            write_report(result, target)
    for told in result.told:
        tell(f"warning: {told}")
    return result


def probe_settings(
    *,
    shots: Iterable[int] = SHOTS,
    words: Words | None = None,
    templates: str | Iterable[str] | None = None,
    seed: int = 0,
    skip_unreadable: float = SHARE,
    **others: Any,
) -> ProbeSettings:
    """The settings of a probe. Raises InputError for numbers and templates that none can have."""
    from vitsmith.probing.one_model import ProbeSettings
    from vitsmith.probing.zero_shot import WordsAsked
    from vitsmith.zeroshot.classifier import given_templates

    try:
        counts = [] if isinstance(shots, str | bytes) else list(shots)
    except TypeError:
        counts = []
    if not counts and not isinstance(shots, list | tuple):
        raise InputError(f"`shots` must be a list of whole numbers, as [1, 4, 16], not {shown(shots)}")
    return ProbeSettings(
        shots=tuple(sorted({whole_number(count, "shots", most=10_000) for count in counts})),
        words=WordsAsked(words, given_templates(templates, words)),
        seed=whole_number(seed, "seed", least=0, most=2**63 - 1),
        skip_unreadable=share(skip_unreadable, "skip_unreadable"),
        **others,
    )


def open_splits(data: DataSpec, split: str, *, seed: int, tell: Tell) -> Splits:
    """The training images and those to score on. Raises DatasetError, and InputError for a part that is neither."""
    splits = open_dataset(data, seed=seed, tell=tell)
    if not split:
        return splits
    part = split_of(instance(split, str, "split", "'val' or 'test'"))
    if part not in SCORED:
        raise InputError(
            f"`split` {split!r} is not a part to score a probe on: give val or test, or leave it out for the held-out "
            "images"
        )
    source = find_source(data.path, data)
    if part not in source.parts:
        there = ", ".join(name for name in source.parts if name) or "none of its own"
        raise DatasetError(
            f"{source.where} has no split {split!r} ({there}): leave `split` out to score on the held-out images"
        )
    samples, _ = open_part(source, part)
    return Splits(splits.train, samples.with_classes(splits.classes, f"the split {part!r} of {data.path}"))


def _typed(model: Model) -> str:
    run_name(model)  # which says what a model is
    return model.where if isinstance(model, Bundle) else os.fsdecode(model)


def _loaded(model: Model, tell: Tell) -> Any:
    bundle = load(model, headless=None)
    for note in assumed(bundle):
        tell(note)
    return bundle


def _apart(names: Sequence[str], at: int) -> str:
    """The name at a position, with a number where several are the same."""
    same = [index for index, name in enumerate(names) if name == names[at]]
    return names[at] if len(same) == 1 else f"{names[at]} ({same.index(at) + 1})"
