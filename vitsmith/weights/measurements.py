"""What measurements of a bundle are called, and which of two replaces the other.

Every number that a verb records is made here, so that the same thing has the same name whoever measured it.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from typing import Any

from vitsmith.errors import NOT_FINITE
from vitsmith.specs import Measurement

ALONE = "inference alone"
"""What speed and memory are measured on: neither reading nor preprocessing of images is in them."""

_OLDER = {
    "peak memory (": "peak_memory (",
    "recall@1 image to text": "recall@1 (image to text)",
    "recall@1 text to image": "recall@1 (text to image)",
}
"""How some names begin in bundles that were written before each thing had one name."""
_COSTS = ("size", "latency_p50", "latency_p95", "images_per_second", "peak_memory", "training speed")
"""What a program costs, and not what it answers: the first words of names."""


def size(mib: float, date: str = "") -> Measurement:
    """Of its weights or program on disk."""
    return Measurement(name="size", value=mib, unit="MiB", date=date or today())


def latency(
    engine: str, batch: int, milliseconds: float, machine: str, *, share: int = 50, date: str = ""
) -> Measurement:
    """Milliseconds that `share` percent of the calls on a batch did not take longer than."""
    return _alone(f"latency_p{share}", engine, batch, milliseconds, "ms", machine, date)


def throughput(engine: str, batch: int, rate: float, machine: str, date: str = "") -> Measurement:
    """Images a second in batches."""
    return _alone("images_per_second", engine, batch, rate, "images/s", machine, date)


def peak_memory(engine: str, batch: int, mib: float, machine: str, date: str = "") -> Measurement:
    """What a process that loads the model, opens the engine and runs a batch takes at its peak, above a bare Python."""
    return _alone("peak_memory", engine, batch, mib, "MiB", machine, date)


def accuracy(
    value: float,
    data: str,
    machine: str,
    *,
    name: str = "top1",
    interval: tuple[float, float] | None = None,
    date: str = "",
) -> Measurement:
    """A share of 1: `name` is 'top1', 'top5', 'agreement ...'; `interval` that of 95% confidence."""
    low, high = interval if interval is not None else (None, None)
    return Measurement(name=name, value=value, low=low, high=high, data=data, machine=machine, date=date or today())


def recall(value: float, k: int, direction: str, data: str, machine: str, interval: tuple[float, float]) -> Measurement:
    """A share of 1; `direction` is 'image to text' or 'text to image'."""
    return accuracy(value, data, machine, name=f"recall@{k} ({direction})", interval=interval)


def evaluated_speed(engine: str, rate: float, data: str, machine: str) -> Measurement:
    """Images a second of a whole evaluation, reading and preprocessing included."""
    name = f"images_per_second ({engine})"
    return Measurement(name=name, value=rate, unit="images/s", data=data, machine=machine, date=today())


def training_speed(value: float, unit: str, data: str, machine: str) -> Measurement:
    """Of the median update."""
    return Measurement(name="training speed", value=value, unit=unit, data=data, machine=machine, date=today())


def today() -> str:
    """ISO 8601."""
    return datetime.date.today().isoformat()


def with_newer(measurements: Sequence[Measurement], newer: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """All of both; of the same thing on the same data and machine the newer one."""
    added = {_key(one): one for one in newer}
    return (*(one for one in measurements if _key(one) not in added), *added.values())


def is_cost(measurement: Measurement) -> bool:
    """Whether it says what a program costs in time and memory, and not what it answers."""
    return _name(measurement).partition(" (")[0] in _COSTS


def told_briefly(measurements: Sequence[Measurement]) -> str:
    """What was measured of answers, for a note: 'top1 0.917 (pets, 200 held-out images)'; '' where nothing was."""
    answers = [one for one in measurements if not is_cost(one)]
    return "; ".join(f"{one.name} {one.value:.4g}{f' ({one.data})' if one.data else ''}" for one in answers)


def finite_measurements(fields: Any) -> Any:
    """What bundle.json holds, without measurements that are NaN or infinite; a note of its provenance names them.

    Early versions wrote such: they say nothing of the model, which is as good as it was.
    """
    try:
        measurements, provenance = fields["measurements"], fields["provenance"]
        left_out = [one for one in measurements if not all(map(_is_usable, one.values()))]
        if not left_out:
            return fields
        names = ", ".join(f"{one['name']}{f' ({data})' if (data := one.get('data')) else ''}" for one in left_out)
        note = f"left out of what was measured, as it is {NOT_FINITE}: {names}"
        notes = [*provenance.get("notes", ()), note]
    except (AttributeError, KeyError, TypeError):  # no bundle.json of ours, as is told next
        return fields
    kept = [one for one in measurements if one not in left_out]
    return fields | {"measurements": kept, "provenance": provenance | {"notes": notes}}


def _alone(what: str, engine: str, batch: int, value: float, unit: str, machine: str, date: str) -> Measurement:
    name = f"{what} ({engine}, {'one image' if batch == 1 else f'batches of {batch}'})"
    return Measurement(name=name, value=value, unit=unit, data=ALONE, machine=machine, date=date or today())


def _key(measurement: Measurement) -> tuple[str, str, str]:
    """Equal for measurements of the same thing, also by its older name and where it does not say that it was alone."""
    name = _name(measurement)
    of_batches = is_cost(measurement) and "," in name  # with how many images: only what is measured alone says it
    return name, measurement.data or (ALONE if of_batches else ""), measurement.machine


def _name(measurement: Measurement) -> str:
    """As it is called now: 'peak_memory (onnx, one image)' for 'peak memory (onnx, one image)'."""
    for older, newer in _OLDER.items():
        if measurement.name.startswith(older):
            return newer + measurement.name.removeprefix(older)
    return measurement.name


def _is_usable(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
