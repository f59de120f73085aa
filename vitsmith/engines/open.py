"""The protocol every engine satisfies, and how one is chosen."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from vitsmith.arguments import MOST_THREADS, known_name, whole_number
from vitsmith.arrays import Array
from vitsmith.data.images.photos import sample_images
from vitsmith.engines.graph_report import GraphReport
from vitsmith.engines.plan import Goal
from vitsmith.engines.program import PRECISION_WORDS
from vitsmith.engines.refusals import check_runs, none_runs, wrong_precision
from vitsmith.engines.registry import ENGINES, able_to_run, fitting, precisions_of, runners
from vitsmith.engines.settings import PRECISIONS, Settings
from vitsmith.engines.tuning_cache import code_state, program_hash, question, recall, remember, unchanged
from vitsmith.errors import BundleError, MissingPackageError
from vitsmith.machine import available_cores
from vitsmith.models.config import merges
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.golden import OUTPUT_TOLERANCE
from vitsmith.weights.load import load

TOLERANCES: dict[str, float] = {
    "fp32": OUTPUT_TOLERANCE,
    "fp16": 0.02,
    "bf16": 0.05,
    "int8": 0.1,
    "int8-weights": 0.1,
    "fp8": 0.2,
}
"""How far golden outputs may differ, as a share of the largest. In bfloat16, with the weights of
tests/reference/fill.py, the difference was 0.005 to 0.016 for ViTs, Mixers and both towers of LiT-B16B_2, and 0.12 for
a hybrid, which would be refused. Programs in fp16, bf16 and int8 have golden outputs of their own: other processors
round a few values the other way."""

SAMPLES = 2


class Engine(Protocol):
    """Runs one bundle. `open_engine` opens it and checks its golden examples."""

    name: str
    precision: str
    """The precision it computes in: 'float32', 'bfloat16', 'float16', 'int8', 'int8, rest bfloat16'."""
    why: str
    """Why this engine was chosen, in a sentence."""

    def run(self, images: Array) -> Array:
        """float32 (batch, 3, height, width) in the range of the bundle's ImageSpec -> float32 outputs, any batch."""

    def run_pixels(self, pixels: Array) -> Array:
        """uint8 (batch, height, width, 3) at the model's size -> outputs. InputError if the program takes no pixels."""

    def run_texts(self, tokens: Array) -> Array:
        """int32 (batch, length) -> float32 (batch, E) unit vectors. Raises InputError without a text tower."""

    def report(self) -> GraphReport:
        """How the engine runs the graph; may run it once."""


def open_engine(
    bundle: Bundle | str | os.PathLike[str],
    engine: str = "auto",
    *,
    threads: int | None = None,
    precision: str = "auto",
    goal: Goal = "throughput",
    num_images: int | None = None,
) -> Engine:
    """An engine for `bundle` whose golden answers have been checked on this machine.

    Args:
        bundle: a bundle, or anything `vitsmith.load` takes; if its folder holds several programs, the first that fits
            is run.
        engine: a name of ENGINES. 'auto' takes the fastest engine for this program, or for others in its folder of the
            same precision. That is measured once on this machine, if `num_images` is so large that measuring saves
            time; else the program's own engine is taken.
        threads: processor cores to use; default all. More than there are means all, with a warning.
        precision: 'auto' is the program's own, and fp32 for torch weights. With another one the golden answers may
            differ by its rounding.
        goal: 'throughput' of batches, or 'latency' of one image at a time.
        num_images: how many images will be run; None: unknown, and nothing is measured.

    Raises UnknownNameError, MissingPackageError, InputError for an engine that cannot run this bundle in this way,
    BundleError for wrong answers.
    """
    return open_program(load(bundle), engine, threads=threads, precision=precision, goal=goal, num_images=num_images)[1]


def open_program(
    bundle: Bundle,
    engine: str = "auto",
    *,
    threads: int | None = None,
    precision: str = "auto",
    goal: Goal = "throughput",
    num_images: int | None = None,
) -> tuple[Bundle, Engine]:
    """Returns the bundle with the program that is run, and its engine; arguments and errors as for `open_engine`."""
    _check_names(engine, precision, goal)
    if num_images is not None:
        num_images = whole_number(num_images, "num_images", least=0)
    able = fitting(bundle, engine, precision)
    if not able:
        raise none_runs(bundle, engine, precision)
    settings = Settings(threads=_cores(threads), precision=precision, goal=goal)
    if engine != "auto":
        check_runs(able[0], engine, precision)
        opened = open_checked(able[0], engine, settings)
        opened.why = f"asked for by name{_taken(bundle, able[0], engine, precision)}"
        return able[0], opened
    from vitsmith.engines.choice import Way, open_best

    ways = [Way(one, name) for one in able for name in _candidates(one, precision) if _is_made_for(name, one, able)]
    taken, opened = open_best(ways, settings, open_checked, num_images)
    opened.why += _taken(bundle, taken, engine, precision)
    return taken, opened


def open_checked(bundle: Bundle, name: str, settings: Settings) -> Engine:
    """Opens the engine of that name and checks its golden answers."""
    kind = ENGINES[name]
    if not kind.installed:
        raise MissingPackageError(kind.package, kind.extra)
    precision = settings.precision if settings.precision != "auto" else precisions_of(bundle, name)[0]
    opened = kind.open(bundle, replace(settings, precision=precision))
    asked = _golden_question(bundle, name, replace(settings, precision=precision))
    if asked is None or recall(asked) != _HELD:
        _check(bundle, opened, precision)
        if asked is not None:
            remember(asked, _HELD)
    return opened


_HELD = {"golden answers": "held"}


def _golden_question(bundle: Bundle, name: str, settings: Settings) -> dict[str, Any] | None:
    """Everything that decides whether a program gives its golden answers here; None: compare them at every start.

    They are compared at every start for torch weights, and if the files were not compared with their hashes.
    """
    if not bundle.verified or bundle.golden is None or bundle.folder is None or bundle.program == "torch":
        return None
    if not unchanged(bundle):  # since it was loaded
        return None
    return question(
        "golden answers",
        program_hash(bundle),
        (ENGINES[name].package, "numpy", "pillow", "simplejpeg", "vitsmith"),
        engine=name,
        precision=settings.precision,
        threads=settings.threads,
        goal=settings.goal,
        preprocessing=bundle.preprocessing.model_dump(mode="json"),
        golden=bundle.golden.digest,
        code=code_state(),
    )


def precision_of(engine: Engine) -> str:
    """The precision of an engine, as measurements write it: 'bf16' for 'bfloat16', 'int8, rest bf16'."""
    return next((short for short, words in PRECISION_WORDS.items() if words == engine.precision), engine.precision)


def tolerance_of(bundle: Bundle, precision: str) -> float:
    """How far the answers of `bundle` may differ when it runs in `precision` ('auto': its program's own).

    If tokens are merged, rounding may merge another pair: see `vitsmith.exporters.program.REQUIRED_MERGING`.
    """
    own = bundle.program_spec.precision
    asked = own if precision == "auto" else precision
    usual = max(TOLERANCES[own], TOLERANCES[asked])
    return max(usual, 0.01 if own == asked == "fp32" else 0.3) if merges(bundle.config) else usual


def _cores(threads: int | None) -> int | None:
    if threads is None:
        return None
    wanted, cores = whole_number(threads, "threads", most=MOST_THREADS), available_cores()
    if wanted > cores:
        warnings.warn(f"{wanted} threads were asked for and there are {cores} cores: {cores} are used", stacklevel=4)
    return min(wanted, cores)


def _check_names(engine: str, precision: str, goal: str) -> None:
    known_name(engine, "engine", ("auto", *ENGINES))
    known_name(precision, "precision", PRECISIONS)
    known_name(goal, "goal", ("throughput", "latency"))


def _taken(bundle: Bundle, taken: Bundle, engine: str, precision: str) -> str:
    """Which program runs, where what was asked for leaves a choice, or where it cannot run; else ''."""
    chosen = bundle.stored if bundle.stored.folder else None  # the user gave a file or folder of this program
    if chosen == taken.stored or len(bundle.programs) < 2:
        return ""
    others = [one.title for one in bundle.programs if one != taken.stored and able_to_run(one, engine, precision)]
    if engine != "auto" and (others or chosen is not None):
        beside = f"; its other programs for {engine}: {' and '.join(map(repr, others))}" if others else ""
        return f"; the program that runs is {taken.stored.title!r}{beside}"
    expected = chosen or bundle.programs[0]
    rounded = precision == "auto" and expected.spec.arithmetic != taken.program_spec.arithmetic
    if engine == "auto" and (rounded or chosen is not None):
        how = "" if precision == "auto" else f" in {precision}"
        return f"; the program that runs is {taken.stored.title!r}: nothing installed here runs {expected.title!r}{how}"
    return ""


def _is_made_for(engine: str, bundle: Bundle, able: Sequence[Bundle]) -> bool:
    """Whether a program was made for this engine, or no program of the bundle was."""
    return bundle.program == engine or all(other.program != engine for other in able)


def _candidates(bundle: Bundle, precision: str) -> list[str]:
    """Engines for 'auto', the program's own first: installed, able to run it, and without compiling at every start."""
    able = [name for name in runners(bundle.program) if not ENGINES[name].compiles_at_every_start]
    precise = [name for name in able if precision in ("auto", *precisions_of(bundle, name))]
    if not precise:
        raise wrong_precision(bundle, precision)
    installed = [name for name in precise if ENGINES[name].installed]
    if not installed:
        raise MissingPackageError(ENGINES[precise[0]].package, ENGINES[precise[0]].extra)
    return installed


def _check(bundle: Bundle, opened: Engine, precision: str) -> None:
    """Checks golden answers; without any, compares rounded arithmetic of torch with float32. Raises BundleError."""
    own = precision == bundle.program_spec.precision
    if not own and bundle.golden is None and bundle.program == "torch":
        bundle = bundle.with_golden(sample_images(SAMPLES))
    try:
        bundle.check_golden(opened.run, tolerance=tolerance_of(bundle, precision))
    except BundleError as error:
        if own:
            raise
        raise BundleError(f"{error}: {precision} is too coarse for this model, or goes wrong here; use fp32") from None
