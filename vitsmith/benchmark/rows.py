"""The results of a benchmark: a row for each contender and batch, as JSON, as CSV and as a bundle's measurements."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vitsmith.benchmark.answers import Parity
from vitsmith.benchmark.contenders import MIB, Contender, Subject
from vitsmith.benchmark.memory import Memory
from vitsmith.engines.tuning_cache import installed_version
from vitsmith.evaluation.evaluation import Evaluation
from vitsmith.evaluation.peak_rates import Peak, raised, share_of_peak
from vitsmith.evaluation.timing import Timing
from vitsmith.machine import describe_machine
from vitsmith.records import Measurement
from vitsmith.weights.bundle.measurements import accuracy, latency, peak_memory, size, throughput

PACKAGES = ("vitsmith", "torch", "numpy", "onnxruntime", "openvino", "executorch", "nncf")


@dataclass(frozen=True, eq=False)
class BenchmarkRow:
    """One contender with one batch: numbers, or the reason why there are none."""

    contender: Contender
    batch: int
    reason: str = ""
    timing: Timing | None = None
    memory: Memory | None = None
    parity: Parity | None = None
    evaluation: Evaluation | None = None
    ratio: float | None = None
    """Speed-up over the first row of this batch size."""
    share: float | None = None
    """Share of the machine's peak in this precision."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; numbers of a failed row are None, and `reason` says why."""
        subject = self.contender.subject
        row: dict[str, Any] = self.contender.to_dict() | {
            "batch": self.batch,
            "reason": self.reason,
            "size_mib": subject.size_mib,
            "gflops": subject.gflops,
        }
        numbers: dict[str, Any] = dict.fromkeys(NUMBERS)
        if self.timing is not None:
            numbers["calls"] = self.timing.calls
            numbers["p50_ms"], numbers["p95_ms"] = self.timing.percentile_ms(50), self.timing.percentile_ms(95)
            numbers["images_per_second"] = self.timing.images_per_second
        if self.memory is not None:
            numbers["memory_mib"] = self.memory.bytes / MIB
            numbers["device_memory_mib"] = self.memory.device_bytes / MIB or None
        if self.parity is not None:
            numbers |= asdict(self.parity)
        if self.evaluation is not None:
            scores = self.evaluation.scores
            numbers["top1"], (numbers["top1_low"], numbers["top1_high"]) = scores.top1, scores.top1_interval
        return row | numbers | {"times_as_fast": self.ratio, "share_of_peak": self.share}


NUMBERS = (
    *("calls", "p50_ms", "p95_ms", "images_per_second", "times_as_fast", "memory_mib", "device_memory_mib"),
    *("difference", "cosine", "agreement", "top1", "top1_low", "top1_high", "share_of_peak"),
)
"""Fields of a row that are None where it failed or they were not measured."""


@dataclass(frozen=True, eq=False)
class Benchmark:
    """All rows, and how they were measured."""

    rows: tuple[BenchmarkRow, ...]
    reports: tuple[tuple[Contender, dict[str, Any]], ...]
    """What each engine did with the graph, as `GraphReport.to_dict` gives it."""
    peaks: Mapping[str, Peak]
    reference: str
    """Name of the reference of all answers; '' for none."""
    num_images: int
    """Number of images whose answers were compared."""
    threads: int
    data: str = ""
    """Name of the labelled images; '' for none."""
    split: Mapping[str, int] | None = None
    """Counts of these images, as `EvaluationSet.counts`; None where the models have no split record."""
    load: float = 0.0
    """Load of the machine: processes that wanted a core in the minute before."""
    remarks: tuple[str, ...] = ()
    """What could not be measured, although no row failed."""
    date: str = field(default_factory=lambda: datetime.date.today().isoformat())

    def __str__(self) -> str:
        timed = [row for row in self.rows if row.timing is not None]
        rows = f"{len(self.rows)} rows" + (f", {len(self.rows) - len(timed)} failed" * (len(timed) < len(self.rows)))
        if not timed:
            return rows
        best = max(timed, key=lambda row: row.timing.images_per_second if row.timing else 0.0)
        assert best.timing is not None
        speed = f"{best.timing.images_per_second:.1f} images/s in batches of {best.batch}"
        return f"{rows}; most images/s: {best.contender.title}, {speed}"

    def __repr__(self) -> str:
        return f"<Benchmark {self}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: the contents of benchmark.json."""
        versions = {package: installed_version(package) for package in PACKAGES}
        return {
            "machine": describe_machine(),
            "threads": self.threads,
            "load_before": round(self.load, 2),
            "date": self.date,
            "versions": {package: version for package, version in versions.items() if version},
            "reference": self.reference,
            "num_images": self.num_images,
            "data": self.data,
            "split": None if self.split is None else dict(self.split),
            "peaks": {precision: asdict(peak) for precision, peak in self.peaks.items()},
            "remarks": list(self.remarks),
            "rows": [row.to_dict() for row in self.rows],
            "engines": [one.to_dict() | report for one, report in self.reports],
        }

    def to_csv(self) -> str:
        """The rows as CSV, one line a row."""
        rows = [row.to_dict() for row in self.rows]
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()

    def measurements(self, subject: Subject) -> tuple[Measurement, ...]:
        """The measurements of one model, as a bundle keeps them."""
        machine, date = describe_machine(), self.date
        found = [size(subject.size_mib, date)]
        evaluated: set[str] = set()
        for row in self.rows:
            if row.contender.subject is not subject or row.timing is None:
                continue
            one, batch = row.contender, row.batch
            ran: dict[str, Any] = {"precision": "" if one.is_own else one.precision, "date": date}
            for percent in (50, 95):
                value = row.timing.percentile_ms(percent)
                found.append(latency(one.engine, batch, value, machine, percentile=percent, **ran))
            found.append(throughput(one.engine, batch, row.timing.images_per_second, machine, **ran))
            if row.memory is not None:
                found.append(peak_memory(one.engine, batch, row.memory.bytes / MIB, machine, **ran))
            if row.evaluation is not None and one.precision not in evaluated:
                evaluated.add(one.precision)
                scores = row.evaluation.scores
                found.append(accuracy(scores.top1, self.data, machine, interval=scores.top1_interval, **ran))
        return tuple(found)


def with_ratios(rows: Sequence[BenchmarkRow], peaks: Mapping[str, Peak]) -> tuple[BenchmarkRow, ...]:
    """The same rows with `ratio` and `share` filled in."""
    from dataclasses import replace

    first: dict[int, Timing] = {}
    finished = []
    for row in rows:
        if row.timing is not None:
            base = first.setdefault(row.batch, row.timing)
            share = share_of_peak(_achieved(row), _peak_name(row.contender, peaks), peaks)
            row = replace(row, ratio=row.timing.times_as_fast_as(base), share=share)
        finished.append(row)
    return tuple(finished)


def with_rates(peaks: Mapping[str, Peak], rows: Sequence[BenchmarkRow]) -> dict[str, Peak]:
    """The same peaks, raised to what rows reached: other work may have slowed the products, but not a model."""
    found = dict(peaks)
    for row in rows:
        if row.timing is not None:
            who = f"{row.contender.title}, batches of {row.batch}"
            found = raised(found, _peak_name(row.contender, peaks), _achieved(row), who)
    return found


def _achieved(row: BenchmarkRow) -> float:
    """Rate of a row, in 10^9 operations a second."""
    assert row.timing is not None
    return row.timing.images_per_second * row.contender.subject.gflops


def _peak_name(contender: Contender, peaks: Mapping[str, Peak]) -> str:
    """Name of the peak of a contender: torch weights run on a GPU where there is one, programs do not."""
    on_a_gpu = f"cuda {contender.precision}"
    return on_a_gpu if contender.subject.bundle.program == "torch" and on_a_gpu in peaks else contender.precision
