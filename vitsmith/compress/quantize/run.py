"""int8 behind its gate: several schemes, evaluated by answers on real images and by speed on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from vitsmith.arrays import Array
from vitsmith.compress.images import TaskImages, read_tensors
from vitsmith.compress.quantize.measure import Programs, ProgramTrials
from vitsmith.compress.quantize.result import Quantization, Quantized
from vitsmith.compress.quantize.schemes import Attempt, search_schemes
from vitsmith.compress.result import MODEL, Listener, Working
from vitsmith.engines.sample_inputs import GATE_INPUTS
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.evaluation.evaluation import refuse_regression
from vitsmith.evaluation.speed import Race, measure_speedup
from vitsmith.evaluation.timing import Pace
from vitsmith.exporters.parts import Part, parts_of
from vitsmith.files.atomic import scratch
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
        with whole_run("quantize", target.name, target) as (run, _):
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
