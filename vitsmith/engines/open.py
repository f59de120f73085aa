"""`open_engine`: the engine that was asked for, or the fastest one that runs the bundle here."""

from __future__ import annotations

import os
import warnings

from vitsmith.arguments import MOST_THREADS, known_name, named_arguments, whole_number
from vitsmith.engines.choice import open_best
from vitsmith.engines.golden_answers import open_checked
from vitsmith.engines.protocol import Engine
from vitsmith.engines.refusals import check_runs, none_runs
from vitsmith.engines.registry import ENGINES, able_to_run, fitting
from vitsmith.engines.settings import PRECISIONS, Goal, Settings
from vitsmith.machine import available_cores
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.load import load


@named_arguments
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
    taken, opened = open_best(able, settings, num_images)
    opened.why += _taken(bundle, taken, engine, precision)
    return taken, opened


def _cores(threads: int | None) -> int | None:
    if threads is None:
        return None
    wanted, cores = whole_number(threads, "threads", most=MOST_THREADS), available_cores()
    if wanted > cores:
        warnings.warn(f"{wanted} threads were asked for and there are {cores} cores: {cores} are used", stacklevel=5)
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
