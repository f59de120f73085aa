"""What merging came to: what was tried, how many answers stayed, what it saved, and whether that is enough to keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isinf
from pathlib import Path
from typing import Any

from vitsmith.compress.calibration import Photos
from vitsmith.compress.schedules import Numbers, describe
from vitsmith.errors import GateError
from vitsmith.evaluate.speed import Speedup
from vitsmith.finite import require_numbers
from vitsmith.machine import describe_machine
from vitsmith.runs import whole_run
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import read_bundle, write_bundle

RESULT, MODEL, PICTURE = "merge.json", "model", "merged.png"
BATCH = 16
"""Of the throughput that is measured."""


@dataclass(frozen=True)
class Demands:
    """What a merged model must keep, and what it must give for that."""

    max_drop: float = 1.0
    """Points of top-1 that may be lost, where images have labels."""
    min_agreement: float = 0.98
    """Without labels: share of images answered as before; of models without classes the mean cosine of embeddings."""
    min_speedup: float = 1.05
    """Least gain for one image or in batches of 16, whichever is larger; at just this it does not pay. Less than a
    twentieth is as likely noise."""

    def __post_init__(self) -> None:
        require_numbers(self)


@dataclass(frozen=True)
class Try:
    """One schedule on the images that judge."""

    numbers: Numbers
    """Tokens merged by each block."""
    tokens: int
    """Left after the last block."""
    gflops: float
    ratio: float
    """What the arithmetic is divided by."""
    agreement: float
    top1: tuple[float, float] | None
    """Of the original and of this, where images have labels."""

    @property
    def lost(self) -> float | None:
        """Points of top-1."""
        return None if self.top1 is None else 100 * (self.top1[0] - self.top1[1])


@dataclass(frozen=True, eq=False)
class Merged:
    """What merging came to. `bundle` is in memory; look at `failures`, or call `require`, before it is used."""

    bundle: Bundle
    original: Bundle
    kind: str
    photos: Photos
    demands: Demands
    tries: tuple[Try, ...]
    """The last is that of `bundle`."""
    compared: tuple[tuple[str, Numbers, float], ...] = ()
    """Of a search: kinds of schedules, with how far they moved the answers."""
    speedup: Speedup | None = None
    """None where too many answers changed: then nothing was timed."""

    @property
    def break_even(self) -> tuple[float, float]:
        """What the arithmetic must be divided by before merging saves time: for one image, and in batches.

        The time that matching and moving of tokens take hardly depends on how many merge. It is what the merged model
        takes beyond its share of the original's time; 1 where there is nothing beyond. nan where nothing was timed.
        """
        if self.speedup is None:
            return float("nan"), float("nan")
        ratio = self.tries[-1].ratio
        single, batches = (max(1 / gain - 1 / ratio, 0.0) for gain in (self.speedup.single, self.speedup.batches))
        return _needed(single), _needed(batches)

    @property
    def what(self) -> str:
        """Name of the agreement."""
        return "top-1 agreement" if self.bundle.classes else "mean cosine"

    @property
    def wrong(self) -> str:
        """Why the answers are not good enough; '' when they are."""
        last, demands = self.tries[-1], self.demands
        if last.lost is not None:
            if last.lost <= demands.max_drop + 1e-9:
                return ""
            return f"it lost {last.lost:.2f} points of top-1 (allowed {demands.max_drop:g})"
        if last.agreement >= demands.min_agreement:
            return ""
        return f"{self.what} is {last.agreement:.2%} (required {demands.min_agreement:.2%})"

    @property
    def slow(self) -> str:
        """Why it does not pay; '' when it does or nothing was timed."""
        speedup = self.speedup
        if speedup is None or max(speedup.single, speedup.batches) > self.demands.min_speedup:
            return ""
        return (
            f"merging does not pay here: {speedup.single:.2f}x for one image, {speedup.batches:.2f}x in batches "
            f"of {speedup.after.batch} (required more than {self.demands.min_speedup:g}x of either)"
        )

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate says no; () when it says yes."""
        return tuple(reason for reason in (self.wrong, self.slow) if reason)

    def require(self) -> None:
        """Raises GateError when the gate said no."""
        if self.failures:
            what = (
                "merge less, try --schedule searched, or fine-tune with merging" if self.wrong else "keep it as it is"
            )
            raise GateError(
                f"merging of {self.original.where} was refused, nothing was written: {'; '.join(self.failures)}; {what}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        tries = [asdict(one) | {"schedule": describe(one.numbers), "lost": one.lost} for one in self.tries]
        facts: dict[str, Any] = {
            "original": self.original.where,
            "kind": self.kind,
            "data": self.photos.name,
            "remarks": list(self.photos.remarks),
            "labelled": self.photos.labels is not None,
            "measure": self.what,
            "tries": tries,
            "compared": [{"kind": kind, "numbers": list(one), "divergence": far} for kind, one, far in self.compared],
            "demands": asdict(self.demands),
            "machine": describe_machine(),
            "failures": list(self.failures),
        }
        if self.speedup is not None:
            single, batches = self.break_even
            facts["speed"] = {
                "engine": "torch",
                "batch": self.speedup.after.batch,
                "latency_ms": [self.speedup.before.latency_ms, self.speedup.after.latency_ms],
                "images_per_second": [self.speedup.before.images_per_second, self.speedup.after.images_per_second],
                "speedups": [self.speedup.single, self.speedup.batches],
                "break_even": [None if isinf(ratio) else ratio for ratio in (single, batches)],
            }
        return facts


def _needed(share: float) -> float:
    """What something must be divided by to make up for so large a share more."""
    return 1 / (1 - share) if share < 1 else float("inf")


def write_merged(merged: Merged, name: str, out: Path | None = None) -> Bundle:
    """Writes a run of `merge`, by default into `runs/merge/<name>`, whole or not at all, and gives the bundle in it.

    It holds the model, the numbers (merge.json) and the command. What is at `out` is replaced. Raises
    GateError when the gate said no, OutputError.
    """
    merged.require()
    with whole_run("merge", name, out) as (run, target):
        run.write_json(RESULT, merged.to_dict())
        write_bundle(merged.bundle, run.folder / MODEL)
    return read_bundle(target / MODEL, verify=False)
