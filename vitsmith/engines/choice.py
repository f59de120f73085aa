"""`engine="auto"`: the engines that run a bundle are timed in turns, and the fastest is remembered.

Timing takes seconds, for which the first use of a model should not wait. It is done only for so many images that it is
expected to save more time than it takes.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vitsmith.engines.golden_answers import open_checked
from vitsmith.engines.plan import GOAL_BATCH, RACE_SECONDS, race
from vitsmith.engines.program import is_small
from vitsmith.engines.protocol import Engine
from vitsmith.engines.refusals import wrong_precision
from vitsmith.engines.registry import ENGINES, precisions_of, runners
from vitsmith.engines.sample_inputs import sample_tensors
from vitsmith.engines.settings import Settings
from vitsmith.engines.tuning_cache import program_hash, question, recall, remember
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.weights.bundle.bundle import Bundle

FEWEST = 100
"""For fewer images nothing is measured, however slow the model is."""
_OPENING = 6.0
"""Expected seconds to open one more engine before it is timed: a child process tries the program, and some plans are
compiled and timed."""
_SAVED = 0.3
"""Share of the time that the fastest engine is expected to save; in docs/engines.md it is 15%."""


@dataclass(frozen=True, eq=False)
class Way:
    """One engine with one of the programs of a bundle."""

    bundle: Bundle
    engine: str


def open_best(able: Sequence[Bundle], settings: Settings, num_images: int | None = None) -> tuple[Bundle, Engine]:
    """Returns bundle and engine of the fastest way to run one of `able` whose golden answers hold.

    `able` is a bundle with each of its programs that may run, the usual one first. `num_images` is how many images will
    be run; None: unknown. Nothing is measured if there is only one way, if the model is very small, or if measuring
    would cost more than it saves: then the first way is taken, or the one that was found to be the fastest before.
    Raises MissingPackageError, and InputError where no engine runs a program in the precision of `settings`.
    """
    ways = _ways(able, settings.precision)
    named = _named(ways)
    first, own = next(iter(named.items()))
    small = is_small(own.bundle)
    if len(named) == 1 or small or own.bundle.folder is None:
        engine = _only(own, settings, 0 if small else num_images or 0)
        engine.why = (
            f"{first}: the only engine installed here that runs this"
            + ("" if settings.precision == "auto" else f" in {settings.precision}")
            if len(named) == 1
            else f"{first}: the model is so small that others were not tried"
        )
        return own.bundle, engine
    asked = question(
        "fastest engine",
        " ".join(dict.fromkeys(program_hash(way.bundle) for way in ways)),
        tuple(ENGINES[way.engine].package for way in ways),
        engines=list(named),
        threads=settings.threads,
        precision=settings.precision,
        goal=settings.goal,
    )
    usual = replace(settings, measure=False)
    if (known := _remembered(asked, named, usual)) is not None:
        return known
    if (unraced := _unraced(named, usual, num_images)) is not None:
        return unraced
    return _raced(asked, named, replace(settings, measure=True))


def _ways(able: Sequence[Bundle], precision: str) -> list[Way]:
    """Each program with the engine it was made for, and with another one only if no program was made for that one."""
    made_for = {bundle.program for bundle in able}
    return [
        Way(bundle, name)
        for bundle in able
        for name in _candidates(bundle, precision)
        if name == bundle.program or name not in made_for
    ]


def _candidates(bundle: Bundle, precision: str) -> list[str]:
    """Engines that may be taken, the program's own first: installed, able to run it, and not for use by name alone."""
    able = [name for name in runners(bundle.program) if not ENGINES[name].only_by_name]
    precise = [name for name in able if precision in ("auto", *precisions_of(bundle, name))]
    if not precise:
        raise wrong_precision(bundle, precision)
    installed = [name for name in precise if ENGINES[name].installed]
    if not installed:
        raise MissingPackageError(ENGINES[precise[0]].package, ENGINES[precise[0]].extra)
    return installed


def _only(own: Way, settings: Settings, num_images: int) -> Engine:
    """Opens one way. How its batches are best cut is measured where that pays for so many images."""
    opened = open_checked(own.bundle, own.engine, replace(settings, measure=False))
    if num_images < FEWEST or _saved(own.bundle, opened, settings, num_images)[0] <= RACE_SECONDS:
        return opened
    return open_checked(own.bundle, own.engine, replace(settings, measure=True))


def _named(ways: Sequence[Way]) -> dict[str, Way]:
    """The ways by name: that of the engine, with the program if an engine has several."""
    often = Counter(way.engine for way in ways)
    return {way.engine if often[way.engine] == 1 else f"{way.engine} ({way.bundle.stored.title})": way for way in ways}


def _unraced(ways: Mapping[str, Way], settings: Settings, num_images: int | None) -> tuple[Bundle, Engine] | None:
    """Opens the first way, and says why the others are not tried; None if they should be tried."""
    (first, own), *others = ways.items()
    try:
        opened = open_checked(own.bundle, own.engine, settings)
    except InputError:
        return None  # perhaps another one runs it
    untried = f"{', '.join(name for name, _ in others)} not tried"
    if num_images is None or num_images < FEWEST:
        many = "an unknown number of" if num_images is None else f"fewer than {FEWEST}"
        opened.why = f"{first}: {untried} for {many} images"
        return own.bundle, opened
    saved, rate = _saved(own.bundle, opened, settings, num_images)
    cost = len(others) * (_OPENING + RACE_SECONDS) + RACE_SECONDS
    if saved > cost:
        return None
    opened.why = (
        f"{first}: {untried}: that takes about {cost:.0f} s and could save about {saved:.1f} s on {num_images:,} "
        f"images ({rate:.1f} images/s)"
    )
    return own.bundle, opened


def _saved(bundle: Bundle, opened: Engine, settings: Settings, num_images: int) -> tuple[float, float]:
    """(seconds that measuring is expected to save, images a second of the engine as it is)."""
    batch = GOAL_BATCH[settings.goal]
    images = sample_tensors(bundle, batch)
    (rate,) = race([lambda: opened.run(images)], batch, seconds=0.2)
    return _SAVED * num_images / rate, rate


def _remembered(asked: dict[str, Any], ways: Mapping[str, Way], settings: Settings) -> tuple[Bundle, Engine] | None:
    known = recall(asked) or {}
    name, why = known.get("engine"), known.get("why")
    if not isinstance(name, str) or name not in ways or not isinstance(why, str):
        return None
    way = ways[name]
    try:
        opened = open_checked(way.bundle, way.engine, settings)
    except InputError:  # it ran when it was measured: measure again
        return None
    opened.why = why
    return way.bundle, opened


def _raced(asked: dict[str, Any], ways: Mapping[str, Way], settings: Settings) -> tuple[Bundle, Engine]:
    opened: dict[str, Engine] = {}
    refused: dict[str, InputError] = {}
    for name, way in ways.items():
        try:
            opened[name] = open_checked(way.bundle, way.engine, settings)
        except InputError as error:
            refused[name] = error
    if not opened:
        raise next(iter(refused.values()))
    batch = GOAL_BATCH[settings.goal]
    images = sample_tensors(next(iter(ways.values())).bundle, batch)
    runs = [lambda engine=engine: engine.run(images) for engine in opened.values()]
    rates = dict(zip(opened, race(runs, batch), strict=True)) if len(opened) > 1 else dict.fromkeys(opened, 0.0)
    best = max(rates, key=lambda name: rates[name])
    why = _why(best, rates, refused, batch)
    if all(getattr(error, "lasting", True) for error in refused.values()):  # else it may run the next time
        remember(asked, {"engine": best, "why": why, "rates": rates})
    opened[best].why = why
    return ways[best].bundle, opened[best]


def _why(best: str, rates: Mapping[str, float], refused: Mapping[str, Exception], batch: int) -> str:
    """'openvino 121.0 images/s, onnx 58.2 (batches of 8, measured 2026-11-25 on this machine)'."""
    order = sorted(rates, key=lambda name: -rates[name])
    how = f"batches of {batch}" if batch > 1 else "one image at a time"
    numbers = ", ".join(f"{name} {rates[name]:.1f} images/s" for name in order)
    today = datetime.date.today().isoformat()
    text = f"{numbers} ({how}, measured {today} on this machine)" if len(rates) > 1 else f"{best}: the others fail"
    return "; ".join([text, *(f"{name} was refused: {error}" for name, error in refused.items())])
