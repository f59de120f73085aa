"""An export: the same steps for all targets, in the order in which they happen.

A candidate is written once into a temporary folder, opened once with the engine that users will use, and compared
there. Only a candidate that passes is put in its place.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.engines.open import open_engine
from vitsmith.engines.protocol import Engine
from vitsmith.engines.sample_inputs import gate_images
from vitsmith.errors import BundleError, GateError, InputError, OutputError
from vitsmith.exporters.exporter import Deliver, Exporter, Extras
from vitsmith.exporters.gate import GOLDEN_IMAGES, Gate, compare_parts, exported, golden_of, required_of, with_accuracy
from vitsmith.exporters.parts import Part, parts_of
from vitsmith.exporters.targets import TARGETS, Target
from vitsmith.files.atomic import scratch
from vitsmith.gate import (
    SAME_ANSWERS,
    TIE,
    Measured,
    Verdict,
    agreement_of,
    failures,
    lowest_cosine,
    relative_difference,
)
from vitsmith.json_text import json_or_none
from vitsmith.models.config import LiTConfig
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import copy_programs, write_bundle
from vitsmith.weights.bundle.manifest import MANIFEST
from vitsmith.weights.bundle.measurements import told_briefly
from vitsmith.weights.bundle.paths import program_file
from vitsmith.weights.fill import require_finite_model


def export(
    bundle: Bundle,
    folder: str | os.PathLike[str],
    target: str,
    spec: ProgramSpec | None = None,
    gate: Gate | None = None,
    extras: Extras | None = None,
) -> tuple[Bundle, Verdict | None]:
    """Exports to one of TARGETS. Returns the bundle that was written (of `npz` that in memory) and the verdict.

    The verdict is None where nothing is computed anew: for weights, and for a program that is copied. Raises InputError
    for options that do not fit each other, GateError if the new program gives other answers, MissingPackageError.
    """
    spec, folder = spec or ProgramSpec(), Path(folder)
    check(bundle, TARGETS[target], spec)
    _check_not_itself(bundle, folder)
    exporter = TARGETS[target].exporter()
    if bundle.program == "torch" and exporter.write is not None:
        return export_program(bundle, folder, exporter, spec, gate, extras)
    deliver = _deliver(bundle, folder, exporter, bundle.program_spec, extras)
    return deliver(bundle.with_provenance(parent=bundle.where, source=exporter.source)), None


def export_program(
    bundle: Bundle,
    folder: str | os.PathLike[str],
    exporter: Exporter,
    spec: ProgramSpec,
    gate: Gate | None = None,
    extras: Extras | None = None,
) -> tuple[Bundle, Verdict]:
    """Makes a program of torch weights; returns the bundle and the gate's verdict, for LiT that of both towers.

    Raises GateError, and writes nothing, if the program gives other answers; InputError for labelled images of a model
    that has no classes, and for a strict gate without labelled images.
    """
    gate = gate or Gate()
    if exporter.check is not None:
        exporter.check(bundle, spec)
    deliver = _deliver(bundle, Path(folder), exporter, spec, extras)
    required = required_of(bundle, exporter, spec, gate)
    gate.check(bundle, required)
    bundle, notes = _prepared(bundle, spec)
    tensors = np.stack([preprocess(image, bundle.preprocessing) for image in gate.images_for(bundle)])
    parts = parts_of(bundle, tensors, pixels=spec.pixels)
    with scratch("export") as place:
        candidate = _write(bundle, parts, exporter, spec, notes, place / "candidate")
        engine = _open(candidate, bundle)
        verdict = compare_parts(bundle, candidate, engine, exporter, gate, parts, tensors)
        if gate.samples is not None:
            drop = required.only("accuracy_drop")
            verdict = with_accuracy(verdict, bundle, candidate, engine, gate.samples, drop)
        return deliver(replace(candidate, golden=golden_of(bundle, candidate, engine))), verdict


def check(bundle: Bundle, target: Target, spec: ProgramSpec) -> None:
    """Raises InputError for a precision that the target's runtime does not compute, for another program, and for
    preprocessing that is not known where the export would hold it."""
    if spec.precision not in target.precisions:
        raise InputError(_why_not(target, spec.precision))
    if not target.gated and spec != ProgramSpec():
        raise InputError(
            f"an {target.suffix} holds weights, not a program: `fixed_batch` and `pixels` are for the other targets"
        )
    if bundle.program not in target.takes:
        raise InputError(
            f"{bundle.where} is already exported (model.{bundle.program}); export the torch one to {target.name}"
        )
    if bundle.program != "torch" and spec not in (ProgramSpec(), bundle.program_spec):
        raise InputError(
            f"{bundle.where} is already a program ({bundle.program_spec.arithmetic}), which is not changed: leave "
            "`precision`, `fixed_batch` and `pixels` out"
        )
    if spec.pixels or (target.gated and not target.addable):  # it preprocesses where no engine of ours can refuse
        bundle.check_preprocessing()


def is_earlier(target: Target, place: Path) -> bool:
    """Whether an earlier export to the target wrote what is at `place`."""
    exporter = target.exporter()
    if exporter.is_earlier is not None:
        return exporter.is_earlier(place)
    try:
        made = json_or_none(place / MANIFEST)["provenance"]["source"]
    except (KeyError, TypeError):
        return False
    return str(made).startswith("vitsmith export")


def _why_not(target: Target, precision: str) -> str:
    there = " or ".join(target.precisions)
    if precision == "int8":
        return f"int8 for {target.name} is made from real images:  vitsmith quantize MODEL --images FOLDER" + (
            f", then  vitsmith export RESULT --to {target.name}" if len(target.takes) > 1 else ""
        )
    if precision == "bf16":
        return f"no runtime of {target.name} computes in bf16 on a CPU: take {there}, or export to openvino"
    return f"{target.name} is written in {there}, not in {precision}"


def _check_not_itself(bundle: Bundle, folder: Path) -> None:
    """Raises OutputError for the folder of the weights that are exported."""
    if bundle.program == "torch" and bundle.folder is not None and folder.exists() and folder.samefile(bundle.folder):
        raise OutputError(f"{folder} is the model itself, whose weights would be lost: choose another output folder")


def _deliver(bundle: Bundle, folder: Path, exporter: Exporter, spec: ProgramSpec, extras: Extras | None) -> Deliver:
    """What puts the checked program in its place; by default it becomes a bundle in `folder`."""
    if exporter.deliver is not None:
        return exporter.deliver(bundle, folder, spec, extras or Extras())
    return lambda made: write_bundle(made, folder, write_program=partial(copy_programs, made.place))


def _prepared(bundle: Bundle, spec: ProgramSpec) -> tuple[Bundle, tuple[str, ...]]:
    """The torch bundle to export, with golden examples, and notes on what was changed in it."""
    bundle.check_split()
    require_finite_model(bundle.model, bundle.where)
    notes: tuple[str, ...] = ()
    if spec.pixels and bundle.preprocessing.quantize == "none":
        rounded = replace(
            bundle, preprocessing=bundle.preprocessing.model_copy(update={"quantize": "round"}), golden=None
        )
        notes = (_rounding(bundle, rounded),)
        bundle = rounded
    if told := told_briefly(bundle.still_measured()):
        notes = (*notes, f"measured before export: {told}")
    return bundle.with_true_golden(sample_images(GOLDEN_IMAGES)), notes


def _rounding(bundle: Bundle, rounded: Bundle) -> str:
    """A note on what rounding resized pixels to uint8 changes. Raises GateError if it changes answers."""
    images = gate_images(bundle)
    before, after = (
        one.run_torch(np.stack([preprocess(image, one.preprocessing) for image in images])) for one in (bundle, rounded)
    )
    difference = relative_difference(before, after)
    if isinstance(bundle.config, LiTConfig) or not bundle.classes:
        measured, required = Measured(cosine=lowest_cosine(before, after)), SAME_ANSWERS.only("cosine")
    else:
        measured, required = Measured(agreement=agreement_of(before, after, TIE)), SAME_ANSWERS.only("agreement")
    if reasons := failures(measured, required):
        raise GateError(
            f"{bundle.where} takes resized pixels unrounded, and rounding them to uint8 changes its answers: "
            f"{'; '.join(reasons)}; export it without `pixels`"
        )
    return f"resized pixels are rounded to uint8, which moved outputs by up to {difference:.2g} of the largest"


def _write(
    bundle: Bundle,
    parts: Sequence[Part],
    exporter: Exporter,
    spec: ProgramSpec,
    notes: tuple[str, ...],
    place: Path,
) -> Bundle:
    """The candidate: a bundle of the program of all parts, not yet compared."""

    def write_program(files: Path) -> None:
        assert exporter.write is not None
        for part in parts:
            exporter.write(part, files / program_file(part.name, exporter.program), spec)

    described = bundle.as_program(exporter.program, spec, *exporter.notes, *notes, by=exporter.source)
    try:
        return write_bundle(described, place, write_program=write_program)
    except OutputError as error:
        raise OutputError(f"a program is checked in a temporary folder: {error}, by setting TMPDIR") from error


def _open(candidate: Bundle, bundle: Bundle) -> Engine:
    """The engine that a user would run it with. Raises GateError if it does not take the program."""
    try:
        return open_engine(replace(candidate, golden=None), candidate.program)
    except BundleError as error:
        raise GateError(f"{exported(candidate, bundle)} was refused, nothing was written: {error}") from None
