"""The search over resolution, pruning, merging and precision for programs that cost less and are still accurate.

It goes in rounds, each smaller than the one before. *Variants* are torch models: pruned, resized, merged, and all
combinations. Those that are accurate enough in float32 become programs, *candidates*, which are measured on this
machine. Variants that no other beats in accuracy and latency are then tried in the coarser precisions, each through the
gate of its own verb. The *choice* is made among all candidates, and verified on images that were not used to choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vitsmith.compress.images import TaskImages
from vitsmith.compress.result import Listener, Told
from vitsmith.compress.search.pareto import Choice, Point, choose, dominates
from vitsmith.compress.search.result import Candidate, ProgramCost, Refused, SearchResult
from vitsmith.data.sets.samples import Samples, place_of
from vitsmith.errors import DatasetError, GateError, InputError, MissingPackageError, NotFiniteError, OutputError
from vitsmith.gate import Measured, Paired, Requirements, failures, refusing
from vitsmith.models.cost import flops
from vitsmith.weights.bundle.bundle import Bundle

FEWEST = 40
"""Held-out images that are needed: half for selection, half for verification."""
MOST_VARIANTS = 12
"""Most variants that are compiled and measured in the first precision."""
MOST_COARSER = 6
"""Most variants that are also tried in the other precisions."""


@dataclass(frozen=True)
class SearchSpace:
    """What is searched over; an empty tuple leaves that kind of change out."""

    resolutions: tuple[float, ...] = (0.86, 0.71)
    """Sides of the image, as a share of the model's."""
    keeps: tuple[float, ...] = (0.7,)
    """Shares of the arithmetic that pruning leaves."""
    merges: tuple[float, ...] = (1.25, 1.5)
    """Factors by which merging divides the arithmetic."""
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")

    def combinations(self) -> Iterator[tuple[float | None, float | None, float | None]]:
        """(keep, resolution, merge) of each variant, the model as it is first."""
        yield from product((None, *self.keeps), (None, *self.resolutions), (None, *self.merges))


@dataclass(frozen=True, eq=False)
class Variant:
    """A torch model that answers well enough in float32."""

    name: str
    bundle: Bundle

    @property
    def gflops(self) -> float:
        return flops(self.bundle.config) / 1e9


class VariantMaker(Protocol):
    """Makes and measures variants for the search; the real one is in `compress.search.variants`, tests have another."""

    def change(
        self, bundle: Bundle, keep: float | None, resolution: float | None, merge: float | None
    ) -> tuple[str, Bundle]:
        """(name, torch bundle) of a variant. Raises InputError for a change that this model cannot take."""

    def right_answers(self, bundle: Bundle, samples: Samples) -> NDArray[np.bool_]:
        """(readable images,) which of the labelled images a bundle classifies correctly, whatever its program."""

    def compile(self, bundle: Bundle, precision: str, folder: Path, selection: Samples) -> Bundle:
        """Writes a program of a torch bundle into a folder; int8 is evaluated on the images for `selection`.

        Raises GateError or InputError.
        """

    def measure(self, bundle: Bundle) -> ProgramCost:
        """What a program costs. Raises GateError where it does not run."""


def halves(samples: Samples, seed: int = 0) -> tuple[Samples, Samples]:
    """Images for selection and for verification, by a hash of their names. Raises DatasetError for too few."""
    if len(samples) < FEWEST:
        raise DatasetError(
            f"{len(samples)} held-out images are too few: give at least {FEWEST}, half for selection and half for "
            "verification"
        )
    order = sorted(range(len(samples)), key=lambda index: place_of(samples.names[index], seed))
    middle = len(order) // 2
    return samples.select(sorted(order[:middle])), samples.select(sorted(order[middle:]))


def search(
    bundle: Bundle,
    images: TaskImages,
    space: SearchSpace,
    required: Requirements,
    choice: Choice,
    variant_maker: VariantMaker,
    folder: Path,
    listener: Listener = lambda _: None,
) -> SearchResult:
    """Searches, chooses and verifies. Writes programs into sub-folders of `folder`, which the caller removes.

    `listener` gets a line on every variant and candidate. `SearchResult.chosen` is None when nothing meets the
    requirements; `SearchResult.holds` says whether the choice passed its verification. Raises DatasetError for too few
    images.
    """
    required.check_measured("compress", "accuracy_drop", "latency_ms", "memory_mib", "size_mib")
    required.of_answers(labelled=True, classes=True)
    selection, verification = halves(images.evaluation)
    required.check_tells(len(selection), "images for selection, half of the held-out ones,")
    found = SearchResult(bundle, variant_maker.right_answers(bundle, selection), required, images.name, images.told)
    listener(Told(f"the original: {found.original_top1:.2%} on {len(selection)} evaluation images, used for selection"))
    bench = _Bench(found, variant_maker, selection, folder, listener)
    first, *others = space.precisions
    variants = _from_all_over(find_variants(found, space, variant_maker, selection, listener), MOST_VARIANTS, found)
    floats = [made for variant in variants if (made := bench.try_program(variant, first))]
    for variant in _worth_having(variants, floats, found):
        for precision in others:
            bench.try_program(variant, precision)
    found.chosen = choose([one for one in found.candidates if not found.objections(one)], choice)
    if found.chosen is not None:
        found.verified = _verify(found.chosen, bundle, variant_maker, verification, listener)
    return found


def _verify(
    chosen: Candidate, original: Bundle, variant_maker: VariantMaker, verification: Samples, listener: Listener
) -> Paired:
    """Compares both on the verification images; if the choice gives answers that are not finite, all count as wrong."""
    before = variant_maker.right_answers(original, verification)
    try:
        return Paired.of(before, variant_maker.right_answers(chosen.bundle, verification))
    except NotFiniteError as error:
        listener(Told(f"{chosen.title}: {error}"))
        return Paired.of(before, np.zeros_like(before))


def find_variants(
    found: SearchResult, space: SearchSpace, variant_maker: VariantMaker, selection: Samples, listener: Listener
) -> list[Variant]:
    """The original, and all variants of the space that lose no more accuracy in float32 than is allowed.

    A variant that loses more would not win it back in a coarser precision.
    """
    variants = [Variant("as it is", found.original)]
    required = replace(found.required.only("accuracy_drop"), strict=False)  # the strict gate applies to programs, below
    seen: set[str] = {""}
    for keep, resolution, merge in space.combinations():
        name = _variant_name(keep, resolution, merge)
        if not name:
            continue
        try:
            name, changed = variant_maker.change(found.original, keep, resolution, merge)
        except (MissingPackageError, OutputError):  # a fault of the machine: every other variant would fail too
            raise
        except InputError as error:
            found.refused.append(Refused(name, str(error)))
            continue
        if name in seen:  # on a small image two shares may give the same number of patches
            continue
        seen.add(name)
        try:
            accuracy = Paired.of(found.original_right, variant_maker.right_answers(changed, selection))
        except NotFiniteError as error:
            found.refused.append(Refused(name, str(error)))
            continue
        listener(Told(f"{name}: {accuracy.after:.2%}, {flops(changed.config) / 1e9:.3g} GFLOPs"))
        if reasons := failures(Measured(accuracy=accuracy), required):
            found.refused.append(Refused(name, f"in float32 {'; '.join(reasons)}"))
        else:
            variants.append(Variant(name, changed))
    return variants


@dataclass(eq=False)
class _Bench:
    """Makes and measures programs, and records candidates and refusals in `found`."""

    found: SearchResult
    variant_maker: VariantMaker
    selection: Samples
    folder: Path
    listener: Listener
    count: int = 0

    def try_program(self, variant: Variant, precision: str) -> Candidate | None:
        """Makes, measures and records a candidate; None, with the reason recorded, where a gate refuses it."""
        title = f"{variant.name}, {precision}"
        self.count += 1
        try:
            program = self.variant_maker.compile(
                variant.bundle, precision, self.folder / str(self.count), self.selection
            )
            cost = self.variant_maker.measure(program)
            with refusing(title):
                right = self.variant_maker.right_answers(program, self.selection)
            accuracy = Paired.of(self.found.original_right, right)
        except (MissingPackageError, OutputError):
            raise
        except (GateError, InputError) as error:
            self.found.refused.append(Refused(title, str(error)))
            self.listener(Told(f"{title}: {error}"))
            return None
        made = Candidate(
            accuracy.after, cost.latency_ms, cost.memory_mib, cost.size_mib, variant.name, precision, cost.engine,
            program, accuracy, cost.answer_ms, program.provenance.notes,
        )  # fmt: skip
        self.found.candidates.append(made)
        self.listener(Told(f"{title}: {made.top1:.2%}, {_told(cost)}"))
        return made


def _told(cost: ProgramCost) -> str:
    return (
        f"{cost.latency_ms:.3g} ms ({cost.answer_ms:.3g} ms to the answer), {cost.memory_mib:.0f} MiB of memory, "
        f"{cost.size_mib:.3g} MiB"
    )


def _from_all_over(variants: Sequence[Variant], most: int, found: SearchResult) -> list[Variant]:
    """At most `most` variants: the original, and others evenly spaced from the most FLOPs to the fewest."""
    original, *others = variants
    others = sorted(others, key=lambda one: -one.gflops)
    places = {round(place) for place in np.linspace(len(others) - 1, 0, most - 1)} if others else set()
    found.refused += [
        Refused(one.name, f"skipped: at most {most} variants are measured")
        for at, one in enumerate(others)
        if at not in places
    ]
    return [original, *(one for at, one in enumerate(others) if at in places)]


def _worth_having(variants: Sequence[Variant], floats: Sequence[Candidate], found: SearchResult) -> list[Variant]:
    """The original, and the variants whose first programs no other beats in accuracy and latency."""
    points = {one.name: Point(one.top1, one.latency_ms, 0.0, 0.0) for one in floats}
    worth = {name for name, point in points.items() if not any(dominates(other, point) for other in points.values())}
    original, *others = variants
    for one in others:
        if one.name in points and one.name not in worth:
            found.refused.append(
                Refused(f"{one.name}, coarser", "another variant is as accurate, and faster in float32")
            )
    return [
        original,
        *_from_all_over([original, *(one for one in others if one.name in worth)], MOST_COARSER, found)[1:],
    ]


def _variant_name(keep: float | None, resolution: float | None, merge: float | None) -> str:
    told = [f"pruned to {keep:g}"] if keep else []
    told += [f"{resolution:g} of the resolution"] if resolution else []
    told += [f"merged {merge:g}x"] if merge else []
    return ", ".join(told)
