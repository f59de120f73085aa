"""The result of merging: what was tried, how many answers stayed, what it saved, and whether the gate passes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isinf
from pathlib import Path
from typing import Any

from vitsmith.compress.images import TaskImages
from vitsmith.compress.merge_tokens.schedules import Numbers, describe
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures, refusal, require
from vitsmith.machine import describe_machine
from vitsmith.runs.run import whole_run
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle, write_bundle

RESULT, MODEL, PICTURE = "merge.json", "model", "merged.png"
BATCH = 16
"""Batch size at which throughput is measured."""


REQUIRED = Requirements(accuracy_drop=1.0, agreement=0.98, any_speedup=1.05)
"""Requirements of a merged model: accuracy with labels, else agreement. A speed-up below 1.05 may well be noise."""


@dataclass(frozen=True)
class Try:
    """One schedule, and its results on the evaluation images."""

    numbers: Numbers
    """Tokens merged by each block."""
    tokens: int
    """Tokens left after the last block."""
    gflops: float
    ratio: float
    """Factor by which the arithmetic is divided."""
    agreement: float
    """Share of images with the same top class as the original; without classes the mean cosine."""
    accuracy: Paired | None
    """Accuracy of the original and of this model; None without labels."""

    @property
    def top1(self) -> tuple[float, float] | None:
        """Top-1 accuracy of the original and of this model; None without labels."""
        return None if self.accuracy is None else (self.accuracy.before, self.accuracy.after)

    @property
    def lost(self) -> float | None:
        """Percentage points of top-1 that are lost; None without labels."""
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
    """The result of merging. `bundle` is in memory: check `failures`, or call `require`, before you use it."""

    bundle: Bundle
    original: Bundle
    kind: str
    images: TaskImages
    required: Requirements
    tries: tuple[Try, ...]
    """Schedules that were tried; the last one is that of `bundle`."""
    compared: tuple[tuple[str, Numbers, float], ...] = ()
    """(kind, schedule, divergence) of each schedule that a search compared."""
    speedup: Speedup | None = None
    """None where too many answers changed, so that nothing was timed."""

    def __str__(self) -> str:
        last = self.tries[-1]
        kept = f"{self.what} {last.agreement:.2%}" if last.accuracy is None else f"{last.accuracy}"
        speed = "" if self.speedup is None else f", {self.speedup}"
        cut = f"{1 / last.ratio:.0%} of the FLOPs left"
        return f"{cut}, {kept} on {self.images.name}{speed}{refusal(self.failures)}"

    def __repr__(self) -> str:
        return f"<Merged {self}>"

    @property
    def break_even(self) -> tuple[float, float]:
        """Factor by which the arithmetic must be divided before merging saves time: for one image, and in batches.

        Matching and moving tokens takes a time that hardly depends on how many merge: the time of the merged model
        beyond its share of the original's. 1 where that time is zero, nan where nothing was timed.
        """
        if self.speedup is None:
            return float("nan"), float("nan")
        ratio = self.tries[-1].ratio
        single, batches = (max(1 / gain - 1 / ratio, 0.0) for gain in (self.speedup.single, self.speedup.batches))
        return _needed(single), _needed(batches)

    @property
    def what(self) -> str:
        """Name of the measure in `agreement`."""
        return "top-1 agreement" if self.bundle.classes else "mean cosine"

    @property
    def wrong(self) -> tuple[str, ...]:
        """Why the answers are not good enough; () when they are."""
        return failures(self._answers, self._of_answers)

    @property
    def slow(self) -> tuple[str, ...]:
        """Why the model is not fast enough; () when it is, or when nothing was timed."""
        if self.speedup is None:
            return ()
        speedup = self.speedup
        measured = Measured(single_speedup=speedup.single, speedup=speedup.batches, batch=speedup.after.batch)
        return failures(measured, self.required.only("any_speedup"))

    @property
    def failures(self) -> tuple[str, ...]:
        """Why the gate refuses the model; () when it passes."""
        return (*self.wrong, *self.slow)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What cannot be told from so few labelled images; () with a strict gate, which lists it in `failures`."""
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
        """Raises GateError when the gate refuses the model."""
        require(f"merging of {self.original.where}", self.failures, self._advice)

    @property
    def _advice(self) -> str:
        """Advice on `failures`; '' where they say themselves how many images are needed."""
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
            "data": self.images.name,
            "remarks": list(self.images.remarks),
            "labelled": self.images.labels is not None,
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
    """Factor by which a time must be divided to make up for `share` of it in addition."""
    return 1 / (1 - share) if share < 1 else float("inf")


def write_merged(merged: Merged, name: str, out: Path | None = None) -> Bundle:
    """Writes a run, by default into `runs/merge-tokens/<name>`, whole or not at all, and returns the bundle in it.

    The run holds the model, the numbers (merge.json) and the command. It replaces what is at `out`. Raises GateError
    when the gate refuses the model, OutputError.
    """
    merged.require()
    with whole_run("merge-tokens", name, out) as (run, target):
        run.write_json(RESULT, merged.to_dict())
        write_bundle(merged.bundle, run.folder / MODEL)
    return read_bundle(target / MODEL, verify=False)
