"""What a search came to: programs that were measured, what was left out and why, and the choice."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any

from vitsmith import __version__
from vitsmith.compress.pareto import Budget, Point, front
from vitsmith.errors import GateError
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
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        return f"{self.name}, {self.precision}"


@dataclass(frozen=True)
class Refused:
    """What did not come to be a candidate, or a variant."""

    title: str
    reason: str


@dataclass(eq=False)
class Found:
    """What a search came to."""

    original: Bundle
    original_top1: float
    """On the images that choose."""
    budget: Budget
    data: str = ""
    """What reports call the images."""
    remarks: tuple[str, ...] = ()
    """Which of the model's images they are."""
    candidates: list[Candidate] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    chosen: Candidate | None = None
    verified: tuple[float, float] | None = None
    """Top-1 of the original and of the choice on the images that had no say."""

    @property
    def front(self) -> list[Candidate]:
        """The candidates that no other beats in accuracy, latency, memory and size at once, by latency."""
        return front(self.candidates)

    @property
    def lost(self) -> float:
        """Points of top-1 that the choice has less than the original where it was verified."""
        assert self.verified is not None
        return 100 * (self.verified[0] - self.verified[1])

    @property
    def holds(self) -> bool:
        """Whether something was chosen, and is as right as it must be where it was verified."""
        return self.chosen is not None and self.lost <= self.budget.max_drop + 1e-9

    def verified_bundle(self) -> Bundle:
        """The choice, with what was measured of it: top-1 where it had no say in the choice."""
        assert self.chosen is not None and self.verified is not None
        chosen = self.chosen
        machine = describe_machine()
        return chosen.bundle.measured(
            accuracy(self.verified[1], f"{self.data}, images without a say", machine),
            latency(chosen.engine, 1, chosen.latency_ms, machine),
            peak_memory(chosen.engine, 1, chosen.memory_mib, machine),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        on_front = self.front
        return {
            "original": self.original.where,
            "original_top1": self.original_top1,
            "data": self.data,
            "remarks": list(self.remarks),
            "machine": describe_machine(),
            "date": datetime.date.today().isoformat(),
            "vitsmith": __version__,
            "budget": vars(self.budget),
            "candidates": [
                {
                    "name": one.name,
                    "precision": one.precision,
                    "engine": one.engine,
                    "top1": one.top1,
                    "latency_ms": one.latency_ms,
                    "memory_mib": one.memory_mib,
                    "size_mib": one.size_mib,
                    "front": one in on_front,
                    "chosen": one is self.chosen,
                    "objections": self.budget.objections(one, self.original_top1),
                    "notes": list(one.notes),
                }
                for one in self.candidates
            ],
            "refused": [vars(one) for one in self.refused],
            "verified": None
            if self.verified is None
            else {"original_top1": self.verified[0], "top1": self.verified[1], "lost_points": self.lost},
        }

    def require(self) -> None:
        """Raises GateError when nothing meets the budget, or the choice does not hold where it is verified."""
        if self.chosen is None:
            nearest = min(
                self.candidates,
                key=lambda one: len(self.budget.objections(one, self.original_top1)),
                default=None,
            )
            near = ""
            if nearest is not None:
                near = f"; the nearest is {nearest.title}: " + ", ".join(
                    self.budget.objections(nearest, self.original_top1)
                )
            raise GateError(f"nothing that was tried meets the budget, nothing was written{near}")
        if not self.holds:
            raise GateError(
                f"{self.chosen.title} was chosen, but loses {self.lost:.2f} points (allowed "
                f"{self.budget.max_drop:g}) on the images that had no say in it: nothing was written; allow less with "
                "--max-drop, so that the choice has some room, or give more images"
            )
