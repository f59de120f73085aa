"""From a bundle of torch weights to a bundle for another runtime, behind the gate: the same steps for all targets.

The parts are written into a candidate bundle in a temporary folder. It is opened with the engine that users will use,
and compared there; only a candidate that passes is copied to the output folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photos import sample_images
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.samples import Samples
from vitsmith.engines.open import open_engine
from vitsmith.engines.program import gate_images
from vitsmith.engines.protocol import Engine
from vitsmith.errors import BundleError, GateError, InputError, OutputError
from vitsmith.evaluation.evaluation import compare_accuracy, evaluate, match_classes
from vitsmith.exporters.parts import Part, parts_of
from vitsmith.files.atomic import scratch
from vitsmith.gate import (
    SAME_ANSWERS,
    TIE,
    Measured,
    Requirements,
    Verdict,
    agreement_of,
    compare,
    doubts,
    failures,
    lowest_cosine,
    refusing,
    relative_difference,
    require,
)
from vitsmith.models.config import LiTConfig, merges
from vitsmith.predict import Predictor
from vitsmith.specs import Program, ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import copy_programs, write_bundle
from vitsmith.weights.bundle.measurements import told_briefly
from vitsmith.weights.fill import require_finite_model

Layers = Iterator[tuple[str, Array, Array]]

GOLDEN_IMAGES = 2

REQUIRED: dict[str, Requirements] = {
    "fp32": SAME_ANSWERS,
    "fp16": Requirements(relative=0.02, agreement=1.0, cosine=0.9995),
    "bf16": Requirements(relative=0.1, agreement=1.0, cosine=0.995),
    "int8": Requirements(cosine=0.5, tie=0.0),
}
"""Requirements of the gate by precision. Rounded arithmetic may move single outputs, but must keep their direction. The
answers of int8 on real images are what counts: see `vitsmith.compress.quantize.run`."""


REQUIRED_MERGING = {
    "fp32": Requirements(relative=0.01, agreement=1.0, cosine=0.999),
    "fp16": Requirements(relative=0.5, agreement=0.9, cosine=0.97),
    "bf16": Requirements(relative=0.5, agreement=0.9, cosine=0.97),
    "int8": REQUIRED["int8"],
}
"""The same for models that merge tokens. If two pairs of tokens are almost equally similar, another order of summation
merges the other pair, and an output moves a little: between torch and onnxruntime by 1.4e-3 for 2 of 128 images (fresh
Ti/16), between float32 and bfloat16 by 0.14 for 1 image in 100 (a trained tower; tests/compress/test_merging.py has
both)."""

ACCURACY_DROP = 0.5
"""Percentage points of top-1 that may be lost on labelled images."""


@dataclass(frozen=True, eq=False)
class Gate:
    """The images that a new program is compared on, and what is required of it."""

    images: Sequence[Array] | None = None
    """uint8 RGB images, at best the user's own; default the bundle's golden images and sample photographs."""
    samples: Samples | None = None
    """Labelled images: on them both models are scored, and accuracy is compared."""
    requirements: Requirements | None = None
    """Requirements in place of the usual ones: the bounds of the precision, and ACCURACY_DROP."""


@dataclass(frozen=True, eq=False)
class Target:
    """One kind of program."""

    program: Program
    spec: ProgramSpec
    source: str
    """The command that provenance names as its source."""
    write: Callable[[Sequence[Part], Path], None]
    """Writes the files of all parts into a folder, unchecked."""
    layers: Callable[[Part, Path, Array], Layers] | None = None
    """(layer, torch output, its output) in the order of the graph, for a part in a folder and a batch of its inputs."""
    notes: tuple[str, ...] = ()


def export_program(
    bundle: Bundle, folder: str | os.PathLike[str], target: Target, gate: Gate | None = None
) -> tuple[Bundle, Verdict]:
    """Writes a bundle for `target` and returns it with the gate's verdict, for LiT that of both towers.

    Raises GateError, and writes nothing, if the target's runtime gives other answers; InputError for a bundle that is
    already exported, for labelled images of a model that has no classes, and for a strict gate without labelled images.
    """
    gate = gate or Gate()
    if gate.requirements is not None:
        gate.requirements.check_measured("export", "relative", "agreement", "cosine", "accuracy_drop")
    required = _required(bundle, target, gate)
    required.check_labels(gate.samples is not None)
    if gate.samples is not None:
        required.check_tells(len(gate.samples))
    bundle, notes = _prepared(bundle, target)
    if gate.samples is not None and (isinstance(bundle.config, LiTConfig) or not bundle.classes):
        raise InputError(f"{bundle.where} has no classes, so labelled images cannot evaluate it: give `images`")
    if gate.samples is not None:
        match_classes(bundle, gate.samples)  # before any work
    images = gate.images if gate.images is not None and len(gate.images) else gate_images(bundle)
    tensors = np.stack([preprocess(image, bundle.preprocessing) for image in images])
    parts = parts_of(bundle, tensors, pixels=target.spec.pixels)
    with scratch("export") as place:
        try:
            candidate = write_bundle(
                _described(bundle, target, notes),
                place / "candidate",
                write_program=lambda files: target.write(parts, files),
            )
        except OutputError as error:
            raise OutputError(f"a program is checked in a temporary folder: {error}, by setting TMPDIR") from error
        engine = _open(candidate, bundle)
        verdict = _compare(bundle, engine, parts, tensors, target, gate, candidate.place)
        if gate.samples is not None:
            verdict = _with_accuracy(verdict, bundle, candidate, engine, gate.samples, required.only("accuracy_drop"))
        final = replace(candidate, golden=_golden(bundle, candidate, engine))
        written = copy_bundle(final, folder)
    return written, verdict


def copy_bundle(bundle: Bundle, folder: str | os.PathLike[str]) -> Bundle:
    """Writes an exported bundle, whose program lies in `bundle.folder`, to another place, and returns the one there.

    Golden answers, measurements and provenance are written as they are in memory.
    """
    source = bundle.place
    return write_bundle(bundle, folder, write_program=lambda files: copy_programs(source, files))


def _prepared(bundle: Bundle, target: Target) -> tuple[Bundle, tuple[str, ...]]:
    """The torch bundle to export, with golden examples, and notes on what was changed in it."""
    bundle.check_split()
    if bundle.program != "torch":
        raise InputError(f"{bundle.where} is already exported (model.{bundle.program}); export the torch one")
    require_finite_model(bundle.model, bundle.where)
    notes: tuple[str, ...] = ()
    if target.spec.pixels and bundle.preprocessing.quantize == "none":
        rounded = replace(
            bundle, preprocessing=bundle.preprocessing.model_copy(update={"quantize": "round"}), golden=None
        )
        notes = (_rounding(bundle, rounded),)
        bundle = rounded
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


def _described(bundle: Bundle, target: Target, notes: tuple[str, ...]) -> Bundle:
    told = (*target.notes, *notes, *_measured_before(bundle))
    return bundle.as_program(target.program, target.spec, *told, by=target.source)


def _measured_before(bundle: Bundle) -> tuple[str, ...]:
    """A note with the measurements of the answers of the model that this program is made from."""
    told = told_briefly(bundle.still_measured())
    return (f"measured before export: {told}",) if told else ()


def _open(candidate: Bundle, bundle: Bundle) -> Engine:
    """The engine that a user would run it with. Raises GateError if it does not take the program."""
    try:
        return open_engine(replace(candidate, golden=None), candidate.program)
    except BundleError as error:
        raise GateError(
            f"the {candidate.program} export of {bundle.where} was refused, nothing was written: {error}"
        ) from None


def _compare(
    bundle: Bundle,
    engine: Engine,
    parts: Sequence[Part],
    tensors: Array,
    target: Target,
    gate: Gate,
    folder: Path,
) -> Verdict:
    """The verdict on all parts together: the worst of each number. Raises GateError."""
    verdicts = {}
    headless = isinstance(bundle.config, LiTConfig) or not bundle.classes
    for part in parts:
        text = part.name == "text"
        inputs = part.inputs if text else tensors
        run = engine.run_texts if text else engine.run
        reference = bundle.run_texts_torch if text else bundle.run_torch

        def layers(batch: Array, part: Part = part) -> Layers:
            assert target.layers is not None
            return target.layers(part, folder, batch if part.name == "text" else part.inputs[: len(batch)])

        required = _required(bundle, target, gate, text=text)
        of = ("texts" if text else "images") if headless else ""
        verdict = compare(reference, run, inputs, required, layers=layers if target.layers else None, embeddings=of)
        verdict.require(f"the {target.program} export of {bundle.where} ({part.name})")
        verdicts[part.name] = verdict
    images, texts = verdicts["model"], verdicts.get("text")
    if texts is None:
        return images
    return replace(
        images,
        relative=max(images.relative, texts.relative),
        agreement=min(images.agreement, texts.agreement),
        cosine=min(images.cosine, texts.cosine),
        num_texts=texts.num_images,
    )


def _required(bundle: Bundle, target: Target, gate: Gate, *, text: bool = False) -> Requirements:
    """What is required of a program's image part, or of its text part."""
    usual = REQUIRED_MERGING if merges(bundle.config) and not text else REQUIRED
    required = replace(usual[target.spec.precision], accuracy_drop=ACCURACY_DROP)
    return required.with_changes(gate.requirements)


def _with_accuracy(
    verdict: Verdict, bundle: Bundle, candidate: Bundle, engine: Engine, samples: Samples, required: Requirements
) -> Verdict:
    """The verdict with the accuracy of both on labelled images. Raises GateError if it drops by more than allowed."""
    what = f"the {candidate.program} export of {bundle.where}"
    before = evaluate(Predictor(bundle, "torch"), samples)
    with refusing(what):
        after = evaluate(Predictor(candidate, engine), samples)
    measured = Measured(accuracy=compare_accuracy(before, after))
    require(what, failures(measured, required))
    return replace(verdict, accuracy=measured.accuracy, doubts=doubts(measured, required))


def _golden(bundle: Bundle, candidate: Bundle, engine: Engine) -> Any:
    """Golden answers: the float model's in fp32, else the program's own, which it must give on other machines too."""
    golden = bundle.golden
    assert golden is not None
    if candidate.program_spec.precision == "fp32":
        return golden
    with refusing(f"the {candidate.program} export of {bundle.where}"):
        golden = replace(golden, outputs=engine.run(golden.tensors))
        if golden.texts is not None:
            golden = replace(golden, texts=replace(golden.texts, embeddings=engine.run_texts(golden.texts.tokens)))
    return golden
