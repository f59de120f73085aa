"""int8 behind its gate: schemes are tried in order, by answers on real images and by speed; the first good is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from vitsmith.arrays import Array
from vitsmith.compress.images import TaskImages, read_tensors
from vitsmith.compress.quantize.measure import Programs, ProgramTrials
from vitsmith.compress.quantize.result import Quantization, Quantized
from vitsmith.compress.quantize.schemes import (
    FIRST_SCHEMES,
    Attempt,
    Fidelity,
    ProgramError,
    Scheme,
    SchemeSearch,
    fastest_of,
    float_choices,
    most_faithful,
)
from vitsmith.compress.result import MODEL, Listener, Working
from vitsmith.engines.sample_inputs import GATE_INPUTS
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.evaluation.evaluation import refuse_regression
from vitsmith.evaluation.speed import Race, Speedup, measure_speedup
from vitsmith.evaluation.timing import Pace
from vitsmith.exporters.parts import Part, parts_of
from vitsmith.files.atomic import scratch
from vitsmith.gate import Measured, Requirements, failures
from vitsmith.machine import describe_machine, int8_dot_products
from vitsmith.models.config import LiTConfig
from vitsmith.records import Measurement
from vitsmith.runs.folder import MARKS, is_run_of
from vitsmith.runs.place import write_or_rescue
from vitsmith.runs.run import whole_run
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import copy_programs, read_bundle, write_bundle
from vitsmith.weights.bundle.measurements import accuracy
from vitsmith.weights.fill import require_finite_model


def _onnx(parts: list[Part], folder: Path) -> Programs:
    from vitsmith.compress.quantize.onnx import OnnxPrograms

    return OnnxPrograms(parts, folder)


def _openvino(parts: list[Part], folder: Path) -> Programs:
    from vitsmith.compress.quantize.openvino import OpenVinoPrograms

    return OpenVinoPrograms(parts, folder)


PROGRAMS: dict[str, Callable[[list[Part], Path], Programs]] = {"openvino": _openvino, "onnx": _onnx}
"""By engine: what writes its programs."""
RACE: Race = partial(measure_speedup, pace=Pace(seconds=3.0, turns=9))
"""Longer than usual: the schemes that are compared differ little in speed."""


_ONE_CLASS = (
    "the original gives one class for all evaluation images: agreement says little, give images of several classes"
)


class Trials(Protocol):
    """Makes, evaluates and times programs. Raises ProgramError for one that cannot be made or does not run."""

    top1: float | None
    """Top-1 accuracy of the torch model; None without labels."""
    rests: tuple[str, ...]
    """Precisions in which everything that is not int8 may be computed, the best first."""
    sites: tuple[str, ...]
    """Parts of the model that may be left in float."""

    def make(self, scheme: Scheme, rest: str) -> float:
        """Makes a program, which `evaluate` and `race` then use, and returns its size in MiB."""

    def evaluate(self) -> Fidelity:
        """Compares the answers of the last program with those of the torch model."""

    def race(self) -> Speedup:
        """Measures the speed of the last program beside the fastest float program."""

    def keep(self) -> None:
        """Keeps the last program, which met all requirements; any other is removed when the next is made."""

    def rank(self, smooth: float | None) -> Sequence[str]:
        """Return `sites`, the most sensitive first, under SmoothQuant of that strength."""


def quantize(
    bundle: Bundle,
    images: TaskImages,
    folder: Path,
    settings: Quantization | None = None,
    *,
    calibration_tensors: Array | None = None,
    race: Race = RACE,
    listener: Listener = lambda _: None,
) -> Quantized:
    """Searches the int8 schemes and writes the chosen program into `folder`; writes nothing when none passes.

    Args:
        bundle: torch weights of an image model, or of a LiT, whose image tower becomes int8.
        images: calibration and evaluation images.
        folder: where the bundle goes.
        settings: engine and requirements.
        calibration_tensors: preprocessed images, used in place of `images.calibration`.
        race: measures two engines beside each other.
        listener: called with each event.

    Raises InputError for a bundle that is already exported, MissingPackageError, GateError when the float program
    already differs, OutputError. When int8 is refused, `Quantized.bundle` is None and `Quantized.require` raises.
    """
    settings = settings or Quantization()
    _check(bundle, images, settings)
    if calibration_tensors is None:
        listener(Working("reading the calibration images"))
        calibration_tensors = read_tensors(bundle, images.calibration.sources)
    with scratch("quantize") as place:
        files = place / "float"
        files.mkdir()
        listener(Working("exporting the float program"))
        programs = PROGRAMS[settings.engine](parts_of(bundle, calibration_tensors[:GATE_INPUTS]), files)
        trials = ProgramTrials(
            bundle, programs, images, calibration_tensors, place, race=race, batch=settings.batch, listener=listener
        )
        floats = tuple(trials.try_float(settings.required))
        for attempt in floats:
            listener(attempt)
        found = search_schemes(trials, settings.required, listener, fastest=settings.fastest)
        remarks = _remarks(bundle, images)
        result = Quantized(bundle, settings, images, trials.top1, floats, found, None, remarks)
        if trials.says_one_thing and images.labels is None:
            result = replace(result, remarks=(*result.remarks, _ONE_CLASS))
        if found.chosen is None:
            return result
        require_finite_model(bundle.model, bundle.where)
        made = trials.program_of(found.chosen).measured(*_measurements(result, found.chosen))
        copy = partial(copy_programs, made.place)
        return replace(result, bundle=write_or_rescue(folder, partial(write_bundle, made, write_program=copy)))


def quantize_to(
    target: Path, bundle: Bundle, images: TaskImages, settings: Quantization, *, listener: Listener = lambda _: None
) -> Quantized:
    """Runs `quantize` and writes a run at `target`, whole or not at all: model, quantize.json, the command.

    When no int8 program passes, only the table is written, and an earlier run is not replaced.
    """
    try:
        with whole_run(target) as run:
            result = quantize(bundle, images, run.folder / MODEL, settings, listener=listener)
            if result.bundle is None and is_run_of("quantize", target):
                raise _KeepsEarlier
            facts = result.to_dict()
            if result.bundle is not None:
                facts["written"] = str(target / MODEL)
            run.write_json(MARKS["quantize"], facts)
    except _KeepsEarlier:
        return result
    if result.bundle is None:
        return result
    return replace(result, bundle=read_bundle(target / MODEL, verify=False))


class _KeepsEarlier(Exception):  # noqa: N818
    """Leaves the folder of a run without replacing it."""


def search_schemes(
    trials: Trials,
    required: Requirements,
    on_attempt: Callable[[Attempt], None] = lambda _: None,
    *,
    fastest: bool = False,
) -> SchemeSearch:
    """Tries the schemes in order until one meets the requirements; with `fastest`, tries all and takes the fastest.

    The search ends when a static scheme answers well enough but is too slow: later schemes leave more in float and are
    not faster. When all answer too badly, the most faithful is tried once more with the rest in float32.
    """
    attempts: list[Attempt] = []

    def ends_with(scheme: Scheme, rest: str) -> bool:
        attempts.append(_try(trials, required, scheme, rest))
        on_attempt(attempts[-1])
        if not attempts[-1].reason:
            return not fastest
        return scheme.kind == "static" and attempts[-1].speedup is not None

    best_rest, *other_rests = trials.rests
    ranking: tuple[str, ...] = ()
    ended = any(ends_with(scheme, best_rest) for scheme in FIRST_SCHEMES)
    faithful = most_faithful(attempts)
    if not ended and faithful and fastest_of(attempts) is None:
        ranking = tuple(trials.rank(faithful.smooth))
        schemes = [replace(faithful, float_sites=sites) for sites in float_choices(ranking)]
        ended = any(ends_with(scheme, best_rest) for scheme in schemes)
        faithful = most_faithful(attempts)
        if not ended and faithful and fastest_of(attempts) is None:
            any(ends_with(faithful, rest) for rest in other_rests)
    return SchemeSearch(tuple(attempts), fastest_of(attempts), ranking)


def _try(trials: Trials, required: Requirements, scheme: Scheme, rest: str) -> Attempt:
    blank = Attempt(scheme.name, scheme, rest)
    try:
        blank = replace(blank, mib=trials.make(scheme, rest))
        fidelity = trials.evaluate()
        blank = replace(blank, fidelity=fidelity)
        if reasons := fidelity.failures(required):
            return replace(blank, reason="; ".join(reasons))
        speedup = trials.race()
        measured = Measured(speedup=speedup.batches, batch=speedup.after.batch)
        if reasons := failures(measured, required.only("speedup")):
            return replace(blank, speedup=speedup, reason="; ".join(reasons))
        trials.keep()
    except ProgramError as error:
        return replace(blank, reason=str(error))
    return replace(blank, speedup=speedup)


def usual_engine() -> str:
    """'openvino' where openvino and nncf are installed, else 'onnx'."""
    return "openvino" if find_spec("openvino") and find_spec("nncf") else "onnx"


def check_quantizable(bundle: Bundle, engine: str) -> None:
    """Raises UnknownNameError for an unknown engine, InputError for a bundle that cannot be quantised."""
    bundle.check_split()
    if engine not in PROGRAMS:
        raise UnknownNameError("engine", engine, PROGRAMS)
    if bundle.program != "torch":
        raise InputError(
            f"{bundle.where} is an exported program (model.{bundle.program}, {bundle.program_spec.arithmetic}): "
            "quantise the torch bundle it was made from"
        )
    refuse_regression(bundle, "agreement of first choices")


def _check(bundle: Bundle, images: TaskImages, settings: Quantization) -> None:
    """Raises InputError, before any work, for a model, images or requirements that do not fit each other."""
    check_quantizable(bundle, settings.engine)
    settings.required.check_measured("quantize", "accuracy_drop", "agreement", "speedup")
    settings.required.of_answers(labelled=images.labelled, classes=bundle.classes > 0)
    settings.required.check_tells(len(images.evaluation))


def _measurements(result: Quantized, chosen: Attempt) -> list[Measurement]:
    fidelity, speedup, images, engine = chosen.fidelity, chosen.speedup, result.images, result.settings.engine
    assert fidelity is not None and speedup is not None
    machine = describe_machine()
    embeds = isinstance(result.original.config, LiTConfig) or not result.original.classes
    what = "mean_cosine" if embeds else "agreement"
    found = []
    if fidelity.top1 is not None:
        count = len(images.evaluation)
        interval = wilson_interval(round(fidelity.top1 * count), count)
        found.append(accuracy(fidelity.top1, images.name, machine, interval=interval))
    with_float = accuracy(fidelity.agreement, images.name, machine, metric=what)
    return [*found, with_float, *speedup.after.measurements(engine)]


def _remarks(bundle: Bundle, images: TaskImages) -> tuple[str, ...]:
    remarks = list(images.remarks)
    if isinstance(bundle.config, LiTConfig):
        remarks.append("only the image tower becomes int8; the text tower stays in fp32")
    if isinstance(bundle.config, LiTConfig) or not bundle.classes:
        remarks.append("the model gives embeddings: the mean cosine with the original's is used in place of agreement")
    if int8_dot_products() is False:
        remarks.append(f"this processor ({describe_machine()}) has no int8 dot products: int8 is rarely faster here")
    return tuple(remarks)
