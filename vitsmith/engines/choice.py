"""`engine="auto"`: the engines that run a program are timed in turns, and the fastest of a machine is remembered.

That costs seconds, and the first use of a model should not wait for them: it is done only where so many images are to
come that it is expected to save more time than it takes.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from vitsmith.engines.plan import GOAL_BATCH, RACE_SECONDS, race
from vitsmith.engines.programs import is_small, sample_tensors
from vitsmith.engines.registry import ENGINES
from vitsmith.engines.remembered import program_hash, question, recall, remember
from vitsmith.engines.settings import Settings
from vitsmith.errors import InputError
from vitsmith.weights.bundle import Bundle

if TYPE_CHECKING:
    from vitsmith.engines.base import Engine

Open = Callable[[Bundle, str, Settings], "Engine"]

FEWEST = 100
"""Images below which nothing is measured, however slow the model."""
_OPENING = 6.0
"""Seconds that one more engine is expected to take before its race: a child process tries the program, and some plans
are compiled and timed."""
_SAVED = 0.3
"""Share of the time that the fastest engine is expected to save; in docs/engines.md it is 15%."""


def open_best(
    bundle: Bundle, names: Sequence[str], settings: Settings, open_one: Open, num_images: int | None = None
) -> Engine:
    """The fastest of the engines `names` whose golden answers hold; of several that differ little, any.

    `open_one` opens an engine and checks it. `num_images` are to come; None: nobody knows. Without anything to compare,
    for models so small that it does not matter, and for so few images that measuring would cost more than it saves, the
    first is taken, or the one that was found to be the fastest before.
    """
    many = num_images is not None and num_images >= FEWEST
    if len(names) == 1 or is_small(bundle) or bundle.folder is None:
        opened = open_one(bundle, names[0], replace(settings, measure=False))
        if many and not is_small(bundle) and _saved(bundle, opened, settings, num_images or 0)[0] > RACE_SECONDS:
            opened = open_one(bundle, names[0], replace(settings, measure=True))  # how its batches are best cut
        opened.why = (
            f"{names[0]}: the only engine installed here that runs this"
            + ("" if settings.precision == "auto" else f" in {settings.precision}")
            if len(names) == 1
            else f"{names[0]}: the model is so small that others were not tried"
        )
        return opened
    asked = question(
        "fastest engine",
        program_hash(bundle),
        tuple(ENGINES[name].package for name in names),
        engines=list(names),
        threads=settings.threads,
        precision=settings.precision,
        goal=settings.goal,
    )
    usual = replace(settings, measure=False)
    if (known := _remembered(bundle, asked, names, usual, open_one)) is not None:
        return known
    if (own := _unraced(bundle, names, usual, open_one, num_images)) is not None:
        return own
    return _raced(bundle, asked, names, replace(settings, measure=True), open_one)


def _unraced(
    bundle: Bundle, names: Sequence[str], settings: Settings, open_one: Open, num_images: int | None
) -> Engine | None:
    """The first engine, and why the others are not tried; None where they are to be."""
    try:
        opened = open_one(bundle, names[0], settings)
    except InputError:
        return None  # perhaps another one runs it
    others = f"{', '.join(names[1:])} not tried"
    if num_images is None or num_images < FEWEST:
        many = "an unknown number of" if num_images is None else f"fewer than {FEWEST}"
        opened.why = f"{names[0]}: {others} for {many} images"
        return opened
    saved, rate = _saved(bundle, opened, settings, num_images)
    cost = len(names[1:]) * (_OPENING + RACE_SECONDS) + RACE_SECONDS
    if saved > cost:
        return None
    opened.why = (
        f"{names[0]}: {others}, which takes about {cost:.0f} s and could save about {saved:.1f} s on {num_images:,} "
        f"images ({rate:.1f} images/s)"
    )
    return opened


def _saved(bundle: Bundle, opened: Engine, settings: Settings, num_images: int) -> tuple[float, float]:
    """(seconds that measuring is expected to save, images a second of the engine as it is)."""
    batch = GOAL_BATCH[settings.goal]
    images = sample_tensors(bundle, batch)
    (rate,) = race([lambda: opened.run(images)], batch, seconds=0.2)
    return _SAVED * num_images / rate, rate


def _remembered(
    bundle: Bundle, asked: dict[str, Any], names: Sequence[str], settings: Settings, open_one: Open
) -> Engine | None:
    known = recall(asked) or {}
    name, why = known.get("engine"), known.get("why")
    if not isinstance(name, str) or name not in names or not isinstance(why, str):
        return None
    try:
        opened = open_one(bundle, name, settings)
    except InputError:  # it went well when it was measured: find out anew
        return None
    opened.why = why
    return opened


def _raced(bundle: Bundle, asked: dict[str, Any], names: Sequence[str], settings: Settings, open_one: Open) -> Engine:
    opened: dict[str, Engine] = {}
    refused: dict[str, InputError] = {}
    for name in names:
        try:
            opened[name] = open_one(bundle, name, settings)
        except InputError as error:
            refused[name] = error
    if not opened:
        raise next(iter(refused.values()))
    batch = GOAL_BATCH[settings.goal]
    images = sample_tensors(bundle, batch)
    runs = [lambda engine=engine: engine.run(images) for engine in opened.values()]
    rates = dict(zip(opened, race(runs, batch), strict=True)) if len(opened) > 1 else dict.fromkeys(opened, 0.0)
    best = max(rates, key=lambda name: rates[name])
    why = _why(best, rates, refused, batch)
    if all(getattr(error, "lasting", True) for error in refused.values()):  # else it may go well the next time
        remember(asked, {"engine": best, "why": why, "rates": rates})
    opened[best].why = why
    return opened[best]


def _why(best: str, rates: Mapping[str, float], refused: Mapping[str, Exception], batch: int) -> str:
    """'openvino 121.0 images/s, onnx 58.2 (batches of 8, measured 2026-11-25 on this machine)'."""
    order = sorted(rates, key=lambda name: -rates[name])
    how = f"batches of {batch}" if batch > 1 else "one image at a time"
    numbers = ", ".join(f"{name} {rates[name]:.1f} images/s" for name in order)
    today = datetime.date.today().isoformat()
    text = f"{numbers} ({how}, measured {today} on this machine)" if len(rates) > 1 else f"{best}: the others fail"
    return "; ".join([text, *(f"{name} was refused: {error}" for name, error in refused.items())])
