"""What merging came to: what was tried, how many answers stayed, what it saved, and whether that is enough to keep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isinf
from pathlib import Path
from typing import Any

from vitsmith.compress.calibration import Photos
from vitsmith.compress.schedules import Numbers, describe
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures, refusal, require
from vitsmith.machine import describe_machine
from vitsmith.runs import whole_run
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import read_bundle, write_bundle

RESULT, MODEL, PICTURE = "merge.json", "model", "merged.png"
BATCH = 16
"""Of the throughput that is measured."""


REQUIRED = Requirements(accuracy_drop=1.0, agreement=0.98, any_speedup=1.05)
"""Of a merged model: accuracy where there are labels, else agreement. A gain of less than a twentieth is as likely
noise."""


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
    accuracy: Paired | None
    """Of the original and of this, where images have labels."""

    @property
    def top1(self) -> tuple[float, float] | None:
        """Of the original and of this."""
        return None if self.accuracy is None else (self.accuracy.before, self.accuracy.after)

    @property
    def lost(self) -> float | None:
        """Points of top-1."""
        return None if self.accuracy is None else self.accuracy.drop

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "numbers": self.numbers,
            "tokens": self.tokens,
            "gflops": self.gflops,
            "keep": 1 / self.ratio,
            "agreement": self.agreement,
            "schedule": describe(self.numbers),
            **({"top1_before": self.top1[0], "top1": self.top1[1]} if self.top1 else {}),
            **(self.accuracy.to_dict() if self.accuracy else {}),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Merged:
    """What merging came to. `bundle` is in memory; look at `failures`, or call `require`, before it is used."""

    bundle: Bundle
    original: Bundle
    kind: str
    photos: Photos
    required: Requirements
    tries: tuple[Try, ...]
    """The last is that of `bundle`."""
    compared: tuple[tuple[str, Numbers, float], ...] = ()
    """Of a search: kinds of schedules, with how far they moved the answers."""
    speedup: Speedup | None = None
    """None where too many answers changed: then nothing was timed."""

    def __str__(self) -> str:
        last = self.tries[-1]
        kept = f"{self.what} {last.agreement:.2%}" if last.accuracy is None else f"{last.accuracy}"
        speed = "" if self.speedup is None else f", {self.speedup}"
        cut = f"{1 / last.ratio:.0%} of the FLOPs left"
        return f"{cut}, {kept} on {self.photos.name}{speed}{refusal(self.failures)}"

    def __repr__(self) -> str:
        return f"<Merged {self}>"

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
    def wrong(self) -> tuple[str, ...]:
        """Why the answers are not good enough; () when they are."""
        return failures(self._answers, self._of_answers)

    @property
    def slow(self) -> tuple[str, ...]:
        """Why it does not pay; () when it does or nothing was timed."""
        if self.speedup is None:
            return ()
        speedup = self.speedup
        measured = Measured(single_speedup=speedup.single, speedup=speedup.batches, batch=speedup.after.batch)
        return failures(measured, self.required.only("any_speedup"))

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate says no; () when it says yes."""
        return (*self.wrong, *self.slow)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the labelled images are too few to tell; () of a strict gate, where that is a reason."""
        return () if self.required.strict else doubts(self._answers, self._of_answers)

    @property
    def _answers(self) -> Measured:
        last = self.tries[-1]
        if last.accuracy is not None:
            return Measured(accuracy=last.accuracy)
        return Measured(agreement=last.agreement) if self.bundle.classes else Measured(mean_cosine=last.agreement)

    @property
    def _of_answers(self) -> Requirements:
        return self.required.of_answers(labelled=self.tries[-1].accuracy is not None, classes=self.bundle.classes > 0)

    def require(self) -> None:
        """Raises GateError when the gate said no."""
        require(f"merging of {self.original.where}", self.failures, self._advice)

    @property
    def _advice(self) -> str:
        """What helps against `failures`; '' where these say themselves how many images would."""
        if self.slow:
            return "merging does not pay here: keep the model as it is"
        if failures(self._answers, replace(self._of_answers, strict=False)):
            return "merge less, try `schedule` searched, or fine-tune with merging"
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        facts: dict[str, Any] = {
            "original": self.original.where,
            "kind": self.kind,
            "data": self.photos.name,
            "remarks": list(self.photos.remarks),
            "labelled": self.photos.labels is not None,
            "measure": self.what,
            "tries": [one.to_dict() for one in self.tries],
            "compared": [{"kind": kind, "numbers": list(one), "divergence": far} for kind, one, far in self.compared],
            "requirements": {
                "max_drop": self.required.accuracy_drop,
                "min_agreement": self.required.agreement,
                "min_speedup": self.required.any_speedup,
                "strict_gate": self.required.strict,
            },
            "machine": describe_machine(),
            "failures": list(self.failures),
            "doubts": list(self.doubts),
        }
        if self.speedup is not None:
            single, batches = self.break_even
            facts["speed"] = {
                "engine": "torch",
                "batch": self.speedup.after.batch,
                "latency_ms": [self.speedup.before.latency_ms, self.speedup.after.latency_ms],
                "images_per_second": [self.speedup.before.images_per_second, self.speedup.after.images_per_second],
                "speedups": [self.speedup.single, self.speedup.batches],
                "break_even_keep": [None if isinf(ratio) else 1 / ratio for ratio in (single, batches)],
            }
        return facts


def _needed(share: float) -> float:
    """What something must be divided by to make up for so large a share more."""
    return 1 / (1 - share) if share < 1 else float("inf")


def write_merged(merged: Merged, name: str, out: Path | None = None) -> Bundle:
    """Writes a run, by default into `runs/merge-tokens/<name>`, whole or not at all, and gives the bundle in it.

    It holds the model, the numbers (merge.json) and the command. What is at `out` is replaced. Raises
    GateError when the gate said no, OutputError.
    """
    merged.require()
    with whole_run("merge-tokens", name, out) as (run, target):
        run.write_json(RESULT, merged.to_dict())
        write_bundle(merged.bundle, run.folder / MODEL)
    return read_bundle(target / MODEL, verify=False)
