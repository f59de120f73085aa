"""The names of measurements of a bundle, and which of two replaces the other.

Every number that a verb records is made here, so that the same thing has the same name whoever measured it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from vitsmith.records import Measurement

COSTS = (
    *("size", "latency_p50", "latency_p95", "images_per_second", "peak_memory", "end_to_end_images_per_second"),
    *("training_images_per_second", "training_pairs_per_second"),
)
"""Metrics of what a model or program costs, and not of what it answers.

Latency, images_per_second and peak_memory are of inference alone: neither reading nor preprocessing is in them.
"""


def size(mib: float, date: str = "") -> Measurement:
    """The size of the weights or program on disk, in MiB."""
    return Measurement(metric="size", value=mib, unit="MiB", date=date or today())


def latency(
    engine: str,
    batch: int,
    milliseconds: float,
    machine: str,
    *,
    percentile: int = 50,
    precision: str = "",
    date: str = "",
) -> Measurement:
    """The latency of a batch in ms that `percentile` percent of the calls do not exceed."""
    return _alone(f"latency_p{percentile}", "ms", engine, batch, milliseconds, machine, precision, date)


def throughput(
    engine: str, batch: int, rate: float, machine: str, *, precision: str = "", date: str = ""
) -> Measurement:
    """Images a second, in batches of `batch`."""
    return _alone("images_per_second", "images/s", engine, batch, rate, machine, precision, date)


def peak_memory(
    engine: str, batch: int, mib: float, machine: str, *, precision: str = "", date: str = ""
) -> Measurement:
    """Peak MiB of a process that loads the model, opens the engine and runs a batch, above those of a bare Python."""
    return _alone("peak_memory", "MiB", engine, batch, mib, machine, precision, date)


def accuracy(
    value: float,
    data: str,
    machine: str,
    *,
    metric: str = "top1",
    engine: str = "",
    precision: str = "",
    interval: tuple[float, float] | None = None,
    date: str = "",
) -> Measurement:
    """An accuracy, as a share of 1. `metric` is 'top1', 'top5', 'agreement' ...; `interval` has 95% confidence."""
    low, high = interval if interval is not None else (None, None)
    return Measurement(
        metric=metric,
        value=value,
        low=low,
        high=high,
        engine=engine,
        precision=precision,
        data=data,
        machine=machine,
        date=date or today(),
    )


def recall(
    value: float,
    k: int,
    direction: str,
    data: str,
    machine: str,
    interval: tuple[float, float],
    *,
    engine: str = "",
    precision: str = "",
) -> Measurement:
    """A share of 1; `direction` is 'image_to_text' or 'text_to_image': the metric is 'text_to_image_recall@5'."""
    metric = f"{direction}_recall@{k}"
    return accuracy(value, data, machine, metric=metric, interval=interval, engine=engine, precision=precision)


def evaluated_speed(engine: str, rate: float, data: str, machine: str, *, precision: str = "") -> Measurement:
    """Images a second of a whole evaluation, reading and preprocessing included."""
    return Measurement(
        metric="end_to_end_images_per_second",
        value=rate,
        unit="images/s",
        engine=engine,
        precision=precision,
        data=data,
        machine=machine,
        date=today(),
    )


def training_speed(value: float, what: str, data: str, machine: str, precision: str) -> Measurement:
    """The speed of the median update; `what` is 'images' or 'pairs', `precision` that of the run."""
    return Measurement(
        metric=f"training_{what}_per_second",
        value=value,
        unit=f"{what}/s",
        precision=precision,
        data=data,
        machine=machine,
        date=today(),
    )


def today() -> str:
    """Today's date, as ISO 8601."""
    return datetime.date.today().isoformat()


def with_newer(measurements: Sequence[Measurement], newer: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """All measurements of both; the newer of two of the same thing on the same data and machine."""
    added = {_key(one): one for one in newer}
    return (*(one for one in measurements if _key(one) not in added), *added.values())


def is_cost(measurement: Measurement) -> bool:
    """Whether it measures time or memory, and not answers."""
    return measurement.metric in COSTS


def still_true(
    measurements: Sequence[Measurement], old: Sequence[Measurement], changed: AbstractSet[str]
) -> tuple[Measurement, ...]:
    """The measurements that still hold after the parts in `changed` were changed; `old` were measured before that.

    Configuration and program decide costs; all other parts decide answers only. A calibration changes probabilities,
    but not the order of the classes.
    """
    costly = changed & {"config", "program", "program_spec"}
    ranks = changed - {"calibration"}

    def holds(one: Measurement) -> bool:
        if is_cost(one):
            return not costly
        return not (changed if one.metric.endswith("calibration_error") else ranks)

    return tuple(one for one in measurements if one not in old or holds(one))


def told_briefly(measurements: Sequence[Measurement]) -> str:
    """The measurements of answers, for a note: 'top1 0.917 (pets, 200 held-out images)'; '' if there are none."""
    answers = [one for one in measurements if not is_cost(one)]
    return "; ".join(f"{one.metric} {one.value:.4g}{f' ({one.data})' if one.data else ''}" for one in answers)


def _alone(
    metric: str, unit: str, engine: str, batch: int, value: float, machine: str, precision: str, date: str
) -> Measurement:
    """A measurement of inference alone, on batches of one size."""
    return Measurement(
        metric=metric,
        value=value,
        unit=unit,
        engine=engine,
        precision=precision,
        batch=batch,
        machine=machine,
        date=date or today(),
    )


def _key(measurement: Measurement) -> tuple[str, str, str, str, int | None, str, str]:
    """Equal for measurements of the same thing. The engine counts for costs, not for answers."""
    one = measurement
    engine = one.engine if is_cost(one) else ""
    return one.metric, engine, one.program, one.precision, one.batch, one.data, one.machine
