"""`engine="auto"`: the engines that run a program are timed in turns, and the fastest of a machine is remembered."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vitsmith.engines.plan import GOAL_BATCH, race
from vitsmith.engines.programs import is_small, sample_tensors
from vitsmith.engines.registry import ENGINES, Settings
from vitsmith.engines.remembered import program_hash, question, recall, remember
from vitsmith.errors import InputError
from vitsmith.weights.bundle import Bundle

if TYPE_CHECKING:
    from vitsmith.engines.base import Engine

Open = Callable[[Bundle, str, Settings], "Engine"]


def open_best(bundle: Bundle, names: Sequence[str], settings: Settings, open_one: Open) -> Engine:
    """The fastest of the engines `names` whose golden answers hold; of several that differ little, any.

    `open_one` opens an engine and checks it. Without anything to compare, or for models so small that it does not
    matter, the first is taken.
    """
    if len(names) == 1 or is_small(bundle) or bundle.folder is None:
        opened = open_one(bundle, names[0], settings)
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
    return _remembered(bundle, asked, names, settings, open_one) or _raced(bundle, asked, names, settings, open_one)


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
