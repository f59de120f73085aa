"""What a search came to: programs that were measured, what was left out and why, and the choice."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitsmith import __version__
from vitsmith.compress.pareto import Point, front
from vitsmith.errors import GateError
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures, refusal
from vitsmith.machine import describe_machine
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.measurements import accuracy, latency, peak_memory


@dataclass(frozen=True, eq=False)
class Candidate(Point):
    """A program on this machine."""

    name: str
    """Its variant's."""
    precision: str
    engine: str
    bundle: Bundle
    accuracy: Paired
    """Of the original and of this, on the images that choose."""
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.name}, {self.precision}"

    @property
    def measured(self) -> Measured:
        return Measured(
            accuracy=self.accuracy, latency_ms=self.latency_ms, memory_mib=self.memory_mib, size_mib=self.size_mib
        )


@dataclass(frozen=True)
class Refused:
    """What did not come to be a candidate, or a variant."""

    title: str
    reason: str


@dataclass(eq=False, repr=False)
class Found:
    """What a search came to."""

    original: Bundle
    original_right: NDArray[np.bool_]
    """(images,) which of the images that choose it names rightly."""
    required: Requirements
    """Of accuracy, latency, memory and size."""
    data: str = ""
    """What reports call the images."""
    remarks: tuple[str, ...] = ()
    """Which of the model's images they are."""
    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    chosen: Candidate | None = None
    verified: Paired | None = None
    """The original and the choice on the verification images, which were not used to choose."""

    def __str__(self) -> str:
        if self.chosen is None:
            return f"nothing of {len(self.candidates)} programs keeps what is required, on {self.data}"
        told = "" if self.verified is None else f", {self.verified}"
        one = self.chosen
        cost = f"{one.latency_ms:.3g} ms, {one.memory_mib:.0f} MiB of memory, {one.size_mib:.3g} MiB of files"
        return f"{one.title} ({one.engine}): {cost}{told}, on {self.data}{refusal(self.not_verified)}"

    def __repr__(self) -> str:
        return f"<Found {self}>"

    @property
    def original_top1(self) -> float:
        """Of the original, on the images that choose."""
        return float(self.original_right.mean())

    @property
    def front(self) -> list[Candidate]:
        """The candidates that no other beats in accuracy, latency, memory and size at once, by latency."""
        return front(self.candidates)

    @property
    def lost(self) -> float:
        """Points of top-1 that the choice has less than the original where it was verified."""
        assert self.verified is not None
        return self.verified.drop

    def objections(self, candidate: Candidate) -> tuple[str, ...]:
        """Why a candidate does not keep what is required; () when it does."""
        return failures(candidate.measured, self.required)

    @property
    def not_verified(self) -> tuple[str, ...]:
        """Why the choice does not hold on the verification images; () when it does."""
        return failures(Measured(accuracy=self.verified), self.required.only("accuracy_drop"))

    @property
    def holds(self) -> bool:
        """Whether something was chosen, and is as right as it must be where it was verified."""
        return self.chosen is not None and not self.not_verified

    @property
    def doubts(self) -> tuple[str, ...]:
        """What the verification images are too few to tell; () of a strict gate, where that is a reason."""
        return () if self.required.strict else doubts(Measured(accuracy=self.verified), self.required)

    def verified_bundle(self) -> Bundle:
        """The choice, with what was measured of it: top-1 where it had no say in the choice."""
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
            "machine": describe_machine(),
            "date": datetime.date.today().isoformat(),
            "vitsmith": __version__,
            "requirements": {
                "max_drop": self.required.accuracy_drop,
                "latency_ms": self.required.latency_ms,
                "memory_mib": self.required.memory_mib,
                "size_mib": self.required.size_mib,
                "strict_gate": self.required.strict,
            },
            "candidates": [
                {
                    "name": one.name,
                    "precision": one.precision,
                    "engine": one.engine,
                    "top1": one.top1,
                    **one.accuracy.to_dict(),
                    "latency_ms": one.latency_ms,
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
        """Raises GateError when nothing keeps what is required, or the choice does not hold where it is verified."""
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
