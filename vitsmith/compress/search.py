"""The search: over resolution, pruning, merging and precision, for programs that cost less and are still right.

Three rounds, each smaller than the one before. *Variants* are torch models: pruned, resized, merged, and what these
give together; they are judged in float32, and only what is worth having by accuracy and arithmetic goes on.
*Candidates* are their programs in each precision, each through the gate of its own verb; they are measured on this
machine. The *choice* is made from those, and verified on images that had no say in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vitsmith.compress.material import Material
from vitsmith.compress.pareto import Budget, Choice, Point, choose, dominates, front
from vitsmith.data.samples import Samples, place_of
from vitsmith.errors import DatasetError, GateError, InputError
from vitsmith.models.cost import flops
from vitsmith.weights.bundle import Bundle

FEWEST = 40
"""Images that must be held out: half of them choose, half verify."""
MOST_VARIANTS = 6
"""Torch models that programs are made of."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Space:
    """What is searched over; an empty tuple leaves a kind of change out."""

    resolutions: tuple[float, ...] = (0.86, 0.71)
    """Sides of the image, as a share of the model's."""
    keeps: tuple[float, ...] = (0.7,)
    """Shares of the arithmetic that pruning leaves."""
    merges: tuple[float, ...] = (1.25, 1.5)
    """By how much merging is to divide the arithmetic."""
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")

    def combinations(self) -> Iterator[tuple[float | None, float | None, float | None]]:
        """(keep, resolution, merge) of each variant, the model as it is first."""
        yield from product((None, *self.keeps), (None, *self.resolutions), (None, *self.merges))


@dataclass(frozen=True, eq=False)
class Variant:
    """A torch model, and how good it is in float32 on the images that choose."""

    name: str
    bundle: Bundle
    top1: float

    @property
    def gflops(self) -> float:
        return flops(self.bundle.config) / 1e9


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


class Workshop(Protocol):
    """What the search has done for it; `vitsmith.compress.workshop` does it for real, tests without."""

    def change(
        self, bundle: Bundle, keep: float | None, resolution: float | None, merge: float | None
    ) -> tuple[str, Bundle]:
        """(name, torch bundle) of a variant. Raises InputError for what cannot be done to this model."""

    def score(self, bundle: Bundle, samples: Samples) -> float:
        """Top-1, 0 to 1, of a bundle on labelled images, whatever its program."""

    def compile(self, bundle: Bundle, precision: str, folder: Path) -> Bundle:
        """A program of a torch bundle, written into a folder. Raises GateError or InputError."""

    def measure(self, bundle: Bundle) -> tuple[str, float, float, float]:
        """(engine, latency of one image in ms, peak memory in MiB, size in MiB)."""


@dataclass(eq=False)
class Found:
    """What a search came to."""

    original: Bundle
    original_top1: float
    """On the images that choose."""
    budget: Budget
    variants: list[Variant] = field(default_factory=list)
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        on_front = self.front
        return {
            "original": self.original.where,
            "original_top1": self.original_top1,
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


def halves(samples: Samples, seed: int = 0) -> tuple[Samples, Samples]:
    """Images that choose and images that verify, by a hash of their names. Raises DatasetError for too few."""
    if len(samples) < FEWEST:
        raise DatasetError(
            f"{len(samples)} held-out images are too few to choose by half of them and verify by the other: "
            f"at least {FEWEST} are needed"
        )
    order = sorted(range(len(samples)), key=lambda index: place_of(samples.names[index], seed))
    middle = len(order) // 2
    return samples.select(sorted(order[:middle])), samples.select(sorted(order[middle:]))


def search(
    bundle: Bundle,
    material: Material,
    space: Space,
    budget: Budget,
    choice: Choice,
    workshop: Workshop,
    folder: Path,
    say: Say = lambda _: None,
) -> Found:
    """Searches, chooses and verifies. Programs are written into sub-folders of `folder`, which the caller clears away.

    `say` hears of every variant and candidate. `Found.chosen` is None when nothing meets the budget. Raises GateError
    when the choice loses more than allowed on the images that verify it, DatasetError for too few images.
    """
    choosing, verifying = halves(material.splits.val)
    found = Found(bundle, workshop.score(bundle, choosing), budget)
    say(f"the original: {found.original_top1:.2%} on {len(choosing)} images that choose")
    found.variants = find_variants(found, space, workshop, choosing, say)
    for number, (variant, precision) in enumerate(product(found.variants, space.precisions)):
        title = f"{variant.name}, {precision}"
        try:
            program = workshop.compile(variant.bundle, precision, folder / str(number))
            engine, latency, memory, size = workshop.measure(program)
        except (GateError, InputError) as error:
            found.refused.append(Refused(title, str(error)))
            say(f"{title}: {error}")
            continue
        top1 = workshop.score(program, choosing)
        notes = program.provenance.notes
        made = Candidate(top1, latency, memory, size, variant.name, precision, engine, program, notes)
        found.candidates.append(made)
        say(f"{title}: {top1:.2%}, {latency:.3g} ms, {memory:.0f} MiB of memory, {size:.0f} MiB")
    found.chosen = choose(found.candidates, found.original_top1, budget, choice)
    if found.chosen is not None:
        found.verified = workshop.score(bundle, verifying), workshop.score(found.chosen.bundle, verifying)
    return found


def find_variants(found: Found, space: Space, workshop: Workshop, choosing: Samples, say: Say) -> list[Variant]:
    """Torch models worth making programs of: the original, and what of the rest is right enough and nowhere beaten.

    A variant that loses more than the budget allows in float32 will not win it back in a coarser precision.
    """
    variants = [Variant("as it is", found.original, found.original_top1)]
    for keep, resolution, merge in space.combinations():
        if (keep, resolution, merge) == (None, None, None):
            continue
        try:
            name, changed = workshop.change(found.original, keep, resolution, merge)
        except InputError as error:
            found.refused.append(Refused(_wish(keep, resolution, merge), str(error)))
            continue
        top1 = workshop.score(changed, choosing)
        drop = 100 * (found.original_top1 - top1)
        say(f"{name}: {top1:.2%}, {flops(changed.config) / 1e9:.3g} GFLOPs")
        if drop > found.budget.max_drop:
            reason = f"loses {drop:.2f} points in float32 (allowed {found.budget.max_drop:g})"
            found.refused.append(Refused(name, reason))
        else:
            variants.append(Variant(name, changed, top1))
    return _worth_having(variants, found)


def _worth_having(variants: Sequence[Variant], found: Found) -> list[Variant]:
    """The original, and the variants that no other beats in accuracy and arithmetic; of many some from all over."""
    original, *others = variants
    points = [Point(one.top1, one.gflops, 0.0, 0.0) for one in variants]
    kept = [one for one, point in zip(others, points[1:], strict=True) if not any(dominates(p, point) for p in points)]
    kept.sort(key=lambda one: -one.gflops)
    places = {round(place) for place in np.linspace(len(kept) - 1, 0, MOST_VARIANTS - 1)} if kept else set()
    taken = [one for place, one in enumerate(kept) if place in places]
    for one in others:
        if one not in taken:
            why = "another is as accurate and lighter" if one not in kept else "there are others like it"
            found.refused.append(Refused(one.name, why))
    return [original, *taken]


def require(found: Found) -> None:
    """Raises GateError when nothing meets the budget, or the choice does not hold where it is verified."""
    if found.chosen is None:
        nearest = min(
            found.candidates,
            key=lambda one: len(found.budget.objections(one, found.original_top1)),
            default=None,
        )
        near = ""
        if nearest is not None:
            near = f"; the nearest is {nearest.title}: " + ", ".join(
                found.budget.objections(nearest, found.original_top1)
            )
        raise GateError(f"nothing that was tried meets the budget, nothing was written{near}")
    if not found.holds:
        raise GateError(
            f"{found.chosen.title} was chosen, but loses {found.lost:.2f} points (allowed "
            f"{found.budget.max_drop:g}) on the images that had no say in it: nothing was written; allow less with "
            "--max-drop, so that the choice has some room, or give more images"
        )


def _wish(keep: float | None, resolution: float | None, merge: float | None) -> str:
    told = [f"pruned to {keep:g}"] if keep else []
    told += [f"{resolution:g} of the resolution"] if resolution else []
    told += [f"merged {merge:g}x"] if merge else []
    return ", ".join(told)
