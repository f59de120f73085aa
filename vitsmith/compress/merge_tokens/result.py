"""The result of merging: what was tried, how many answers stayed, what it saved, and whether the gate passes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isinf
from pathlib import Path
from typing import Any

from vitsmith.compress.merge_tokens.schedules import Numbers, describe
from vitsmith.compress.result import Result, bounds_to_dict, speeds_to_dict, write_result
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Paired, Requirements, failures, refusal
from vitsmith.machine import describe_machine
from vitsmith.weights.bundle.bundle import Bundle

PICTURE = "merged.png"
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
class Merged(Result):
    """The result of merging."""

    kind: str
    tries: tuple[Try, ...]
    """Schedules that were tried; the last one is that of `bundle`."""
    compared: tuple[tuple[str, Numbers, float], ...] = ()
    """(kind, schedule, divergence) of each schedule that a search compared."""
    speedup: Speedup | None = None
    """None where too many answers changed, so that nothing was timed."""

    work = "merging"

    def __str__(self) -> str:
        last = self.tries[-1]
        kept = f"{self.what} {last.agreement:.2%}" if last.accuracy is None else f"{last.accuracy}"
        speed = "" if self.speedup is None else f", {self.speedup}"
        cut = f"{1 / last.ratio:.0%} of the FLOPs left"
        return f"{cut}, {kept} on {self.images.name}{speed}{refusal(self.failures)}"

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
    def measured(self) -> Measured:
        last = self.tries[-1]
        if last.accuracy is not None:
            answers = Measured(accuracy=last.accuracy)
        else:
            answers = (
                Measured(agreement=last.agreement) if self.bundle.classes else Measured(mean_cosine=last.agreement)
            )
        if self.speedup is None:
            return answers
        single, batches = self.speedup.single, self.speedup.batches
        return replace(answers, single_speedup=single, speedup=batches, batch=self.speedup.after.batch)

    @property
    def bounds(self) -> Requirements:
        return (
            self._of_answers
            if self.speedup is None
            else replace(self._of_answers, any_speedup=self.required.any_speedup)
        )

    @property
    def wrong(self) -> tuple[str, ...]:
        """Why the answers are not good enough; () when they are."""
        return failures(self.measured, self._of_answers)

    @property
    def slow(self) -> tuple[str, ...]:
        """Why the model is not fast enough; () when it is, or when nothing was timed."""
        return () if self.speedup is None else failures(self.measured, self.required.only("any_speedup"))

    @property
    def _of_answers(self) -> Requirements:
        return self.required.of_answers(labelled=self.tries[-1].accuracy is not None, classes=self.bundle.classes > 0)

    @property
    def advice(self) -> str:
        if self.slow:
            return "merging does not pay here: keep the model as it is"
        if failures(self.measured, replace(self._of_answers, strict=False)):
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
            "requirements": bounds_to_dict(self.required, min_agreement="agreement", min_speedup="any_speedup"),
            "machine": describe_machine(),
            "failures": list(self.failures),
            "doubts": list(self.doubts),
        }
        if self.speedup is not None:
            single, batches = self.break_even
            facts["speed"] = {
                "engine": "torch",
                "batch": self.speedup.after.batch,
                **speeds_to_dict(self.speedup),
                "speedups": [self.speedup.single, self.speedup.batches],
                "break_even_keep": [None if isinf(ratio) else 1 / ratio for ratio in (single, batches)],
            }
        return facts


def _needed(share: float) -> float:
    """Factor by which a time must be divided to make up for `share` of it in addition."""
    return 1 / (1 - share) if share < 1 else float("inf")


def write_merged(merged: Merged, target: Path) -> Bundle:
    """Writes a run of `merge-tokens` as `write_result` does."""
    return write_result("merge-tokens", merged, target)
