"""The result of a search: programs that were measured, what was left out and why, and the choice."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith.compress.result import bounds_to_dict, made_here
from vitsmith.compress.search.pareto import Point, front
from vitsmith.errors import GateError
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures, refusal
from vitsmith.machine import describe_machine
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.measurements import accuracy, latency, peak_memory


@dataclass(frozen=True)
class ProgramCost:
    """What one program costs on this machine."""

    engine: str
    latency_ms: float
    """The engine's median of one image."""
    answer_ms: float
    """The 95th percentile of one image, from the bytes of a JPEG to the answer."""
    memory_mib: float
    size_mib: float


@dataclass(frozen=True, eq=False)
class Candidate(Point):
    """A program that was measured on this machine."""

    name: str
    """Name of its variant."""
    precision: str
    engine: str
    bundle: Bundle
    accuracy: Paired
    """Accuracy of the original and of this program, on the images for selection."""
    answer_ms: float
    """The 95th percentile of one image, from bytes to answer, in ms: what a budget of latency is about."""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.name}, {self.precision}"

    @property
    def measured(self) -> Measured:
        return Measured(
            accuracy=self.accuracy, latency_ms=self.answer_ms, memory_mib=self.memory_mib, size_mib=self.size_mib
        )


@dataclass(frozen=True)
class Refused:
    """A variant or program that was left out."""

    title: str
    reason: str


@dataclass(eq=False, repr=False)
class SearchResult:
    """The result of a search."""

    original: Bundle
    original_right: NDArray[np.bool_]
    """(images,) which images for selection the original classifies correctly."""
    required: Requirements
    """Bounds on accuracy, latency, memory and size."""
    data: str = ""
    """Name of the images in reports."""
    remarks: tuple[str, ...] = ()
    """Remarks on how the images were chosen."""
    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    chosen: Candidate | None = None
    verified: Paired | None = None
    """Accuracy of the original and of the choice on the verification images, which were not used to choose."""

    def __str__(self) -> str:
        if self.chosen is None:
            return f"nothing of {len(self.candidates)} programs keeps what is required, on {self.data}"
        told = "" if self.verified is None else f", {self.verified}"
        one = self.chosen
        times = f"{one.latency_ms:.3g} ms ({one.answer_ms:.3g} ms to the answer)"
        cost = f"{times}, {one.memory_mib:.0f} MiB of memory, {one.size_mib:.3g} MiB of files"
        return f"{one.title} ({one.engine}): {cost}{told}, on {self.data}{refusal(self.not_verified)}"

    def __repr__(self) -> str:
        return f"<SearchResult {self}>"

    @property
    def original_top1(self) -> float:
        """Top-1 accuracy of the original on the images for selection."""
        return float(self.original_right.mean())

    @property
    def front(self) -> list[Candidate]:
        """The Pareto front of accuracy, latency, memory and size, by latency."""
        return front(self.candidates)

    @property
    def lost(self) -> float:
        """Percentage points of top-1 that the choice loses on the verification images."""
        assert self.verified is not None
        return self.verified.drop

    def objections(self, candidate: Candidate) -> tuple[str, ...]:
        """Why a candidate does not meet the requirements; () when it does."""
        return failures(candidate.measured, self.required)

    @property
    def not_verified(self) -> tuple[str, ...]:
        """Why the choice does not hold on the verification images; () when it does."""
        return failures(Measured(accuracy=self.verified), self.required.only("accuracy_drop"))

    @property
    def holds(self) -> bool:
        """Whether something was chosen, and is accurate enough on the verification images."""
        return self.chosen is not None and not self.not_verified

    @property
    def doubts(self) -> tuple[str, ...]:
        """What cannot be told from so few verification images; () with a strict gate, which refuses for it."""
        return () if self.required.strict else doubts(Measured(accuracy=self.verified), self.required)

    def verified_bundle(self) -> Bundle:
        """The choice with its measurements; its top-1 is that on the verification images."""
        assert self.chosen is not None and self.verified is not None
        chosen = self.chosen
        machine = describe_machine()
        return chosen.bundle.measured(
            accuracy(self.verified.after, f"{self.data}, verification split, not used for selection", machine),
            latency(chosen.engine, 1, chosen.latency_ms, machine),
            peak_memory(chosen.engine, 1, chosen.memory_mib, machine),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        on_front = self.front
        return {
            "original": self.original.where,
            "top1_before": self.original_top1,
            "data": self.data,
            "remarks": list(self.remarks),
            **made_here(),
            "requirements": bounds_to_dict(
                self.required, latency_ms="latency_ms", memory_mib="memory_mib", size_mib="size_mib"
            ),
            "candidates": [
                {
                    "name": one.name,
                    "precision": one.precision,
                    "engine": one.engine,
                    "top1": one.top1,
                    **one.accuracy.to_dict(),
                    "latency_ms": one.latency_ms,
                    "answer_p95_ms": one.answer_ms,
                    "memory_mib": one.memory_mib,
                    "size_mib": one.size_mib,
                    "front": one in on_front,
                    "chosen": one is self.chosen,
                    "objections": list(self.objections(one)),
                    "notes": list(one.notes),
                }
                for one in self.candidates
            ],
            "refused": [vars(one) for one in self.refused],
            "verified": None
            if self.verified is None
            else {
                "top1_before": self.verified.before,
                "top1": self.verified.after,
                **self.verified.to_dict(),
            },
            "doubts": list(self.doubts),
        }

    def require(self) -> None:
        """Raises GateError when nothing meets the requirements, or the choice fails on the verification images."""
        if self.chosen is None:
            told = "nothing that was tried meets the budget"
            lenient = replace(self.required, strict=False)
            near = [one for one in self.candidates if not failures(one.measured, lenient)]
            if near:
                told = "the images for selection, half of the held-out ones, do not satisfy the strict gate"
            nearest = min(near or self.candidates, key=lambda one: len(self.objections(one)), default=None)
            why = "" if nearest is None else f"; the nearest is {nearest.title}: {'; '.join(self.objections(nearest))}"
            raise GateError(f"{told}, nothing was written{why}")
        if not self.holds:
            wrong = failures(Measured(accuracy=self.verified), Requirements(accuracy_drop=self.required.accuracy_drop))
            advice = "; allow less with `max_drop`, so that the choice has some room, or give more images"
            raise GateError(
                f"{self.chosen.title} was chosen, but does not hold on the verification images, which were not used to "
                f"choose: {'; '.join(self.not_verified)}; nothing was written{advice if wrong else ''}"
            )
