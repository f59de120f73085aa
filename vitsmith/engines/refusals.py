"""Why no engine runs a bundle in the way that was asked for: errors that list what it has and what runs it."""

from __future__ import annotations

from vitsmith.engines.registry import ENGINES, able_to_run, precisions_of, runners
from vitsmith.engines.settings import GPU_PRECISIONS
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.specs import StoredProgram
from vitsmith.weights.bundle.bundle import Bundle


def check_runs(bundle: Bundle, engine: str, precision: str) -> None:
    """Raises InputError unless the engine runs the program of the bundle in that precision."""
    able = runners(bundle.program)
    if engine not in able:
        others = f"; it also runs in {', '.join(map(repr, able[1:]))}" if able[1:] and bundle.program != "torch" else ""
        made = ENGINES[engine].programs[0]
        way = f"; make one with  vitsmith export --to {made}" if bundle.program == "torch" else others
        raise InputError(f"{bundle.where} is a bundle for the {able[0]!r} engine, not {engine!r}{way}")
    if precision not in ("auto", *precisions_of(bundle, engine)):
        raise wrong_precision(bundle, precision)


def wrong_precision(bundle: Bundle, precision: str) -> InputError:
    """The error for a program that no engine runs in a precision."""
    what = f"{bundle.program} program, {bundle.program_spec.arithmetic}"
    gpu = _needs_gpu(precision) if bundle.program == "torch" else ""
    return InputError(f"{bundle.where} ({what}) cannot run in {precision}: {ways_to_run(bundle.stored)}{gpu}")


def none_runs(bundle: Bundle, engine: str, precision: str) -> InputError:
    """The error for a bundle of several programs, none of which `engine` runs here in `precision`.

    MissingPackageError where one of them would run, were its engine installed.
    """
    for one in bundle.programs:
        for name in able_to_run(one, engine, precision):
            return MissingPackageError(ENGINES[name].package, ENGINES[name].extra)
    asked = " in ".join(word for word in (engine, precision) if word != "auto")
    there = "; ".join(f"{one.title} ({ways_to_run(one)})" for one in bundle.programs)
    made, fits = ENGINES[engine].programs[0] if engine != "auto" else "torch", precision == "auto"
    way = f"; make one with  vitsmith export --to {made} --add" if fits and made != "torch" else ""
    return InputError(
        f"none of the programs of {bundle.where} runs in {asked}: it has {there}{_needs_gpu(precision)}{way}"
    )


def ways_to_run(stored: StoredProgram) -> str:
    """'onnx runs it in fp32; openvino runs it in fp32 or bf16'."""
    return "; ".join(
        f"{name} runs it in {' or '.join(ENGINES[name].precisions(stored.spec))}" for name in runners(stored.program)
    )


def _needs_gpu(precision: str) -> str:
    return f"; {precision} needs an NVIDIA GPU" if precision in GPU_PRECISIONS else ""
