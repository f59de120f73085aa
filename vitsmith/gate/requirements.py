"""Requirements on a changed model, what was measured of it, and the one comparison of the two."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from vitsmith.errors import GateError, InputError
from vitsmith.finite import require_numbers
from vitsmith.gate.paired import Paired, fewest_images

_ROUNDING = 1e-9  # percentage points: in floating point 100 * (0.95 - 0.94) is more than 1


@dataclass(frozen=True)
class Requirements:
    """Bounds on what a changed model may lose and must gain. None: no bound."""

    relative: float | None = None
    """Largest difference of any output, as a share of the largest reference output."""
    agreement: float | None = None
    """Least share of images, 0 to 1, on which both models name the same class."""
    cosine: float | None = None
    """Least cosine between the two outputs of any image."""
    mean_cosine: float | None = None
    """Least mean cosine over the images."""
    accuracy_drop: float | None = None
    """Most percentage points of top-1 that may be lost, with both models on the same labelled images."""
    top1: float | None = None
    """Least share of labelled images, 0 to 1, that are classified correctly."""
    speedup: float | None = None
    """Least throughput in batches, as a multiple of the original's."""
    any_speedup: float | None = None
    """The larger of the speed-ups for one image and in batches must be more than this."""
    latency_ms: float | None = None
    """Most time for one image, in milliseconds."""
    memory_mib: float | None = None
    """Most memory at the peak, in MiB."""
    size_mib: float | None = None
    """Most size of the program's files, in MiB."""
    tie: float | None = None
    """Largest difference of two reference outputs, as a share of the largest, at which their classes count as the same;
    default `relative`."""
    batches: tuple[int, ...] = (1, 2, 7)
    """Batch sizes that must work; a program frozen at one size fails here."""
    strict: bool = False
    """Refuse also when the labelled images are too few to tell whether `accuracy_drop` holds."""

    def __post_init__(self) -> None:
        require_numbers(self)
        if any(size < 1 for size in self.batches):
            raise InputError(f"batch sizes are whole numbers from 1, and not {self.batches}")
        for name in (*_BOUNDS, "tie"):
            bound, (least, most) = getattr(self, name), _RANGES.get(name, (0, math.inf))
            if bound is not None and not least <= bound <= most:
                raise InputError(
                    f"{name} is {'at least 0' if most == math.inf else f'{least} to {most}'}, not {bound:g}"
                )

    def only(self, *names: str) -> Requirements:
        """Return these requirements with only the named bounds."""
        return replace(self, **{name: None for name in _BOUNDS if name not in names})  # type: ignore[arg-type]

    def check_measured(self, verb: str, *names: str) -> None:
        """Raises InputError for a bound on a quantity that `verb` does not measure, as it would be ignored."""
        others = [name for name in _BOUNDS if name not in names and getattr(self, name) is not None]
        if others:
            raise InputError(f"{verb} does not measure {', '.join(others)}: it takes bounds of {', '.join(names)}")

    def of_answers(self, *, labelled: bool, classes: bool) -> Requirements:
        """Return only the bound on answers: accuracy with labels, else agreement; without classes the mean cosine.

        For a model without classes, `agreement` is the least mean cosine. Raises InputError for a strict gate without
        labels, and where that bound is missing, as any answers would pass.
        """
        self.check_labels(labelled)
        decides = "accuracy_drop" if labelled else "agreement"
        if getattr(self, decides) is None:
            images = "images with labels" if labelled else "images without labels"
            raise InputError(f"{images} are compared by {decides}, and it has no bound: set {decides}")
        return self.only(decides) if labelled or classes else replace(self.only(), mean_cosine=self.agreement)

    def check_labels(self, labelled: bool) -> None:
        """Raises InputError for a strict gate without labelled images."""
        if self.strict and not labelled:
            raise InputError("a strict gate counts right answers: give it labelled images (`data`)")

    def check_tells(self, num_images: int, what: str = "evaluation images") -> None:
        """Raises InputError for a strict gate that cannot pass with `num_images` images, even if no answer changes."""
        if not self.strict or self.accuracy_drop is None:
            return
        enough = fewest_images(self.accuracy_drop)
        if enough is None:
            need, advice = "no number of images is enough", "allow some points with `max_drop`"
        else:
            need, advice = f"at least {enough:,} are needed", "give more, allow more with `max_drop`"
        if enough is None or num_images < enough:
            raise InputError(
                f"{num_images:,} {what} cannot tell whether accuracy drops by more than {_points(self.accuracy_drop)}, "
                f"as a strict gate asks: even if no answer changes, {need}; {advice}, or leave `strict_gate` out"
            )

    def with_changes(self, changes: Requirements | None) -> Requirements:
        """Return these requirements, replaced by the bounds, `tie` and batch sizes that `changes` sets."""
        if changes is None:
            return self
        bounds = {name: value for name in (*_BOUNDS, "tie") if (value := getattr(changes, name)) is not None}
        batches = changes.batches if changes.batches != Requirements.batches else self.batches
        return replace(self, **bounds, batches=batches, strict=self.strict or changes.strict)


@dataclass(frozen=True)
class Measured:
    """Measurements of a changed model, compared with its original. None: not measured."""

    relative: float | None = None
    agreement: float | None = None
    agrees: str = "top-1 agrees on {:.1%} of the images"  # how messages state the agreement
    cosine: float | None = None
    mean_cosine: float | None = None
    accuracy: Paired | None = None
    """Accuracy of both models on the same labelled images."""
    top1: float | None = None
    speedup: float | None = None
    """Speed-up in batches of `batch` images."""
    single_speedup: float | None = None
    """Speed-up for one image."""
    batch: int | None = None
    latency_ms: float | None = None
    memory_mib: float | None = None
    size_mib: float | None = None


@dataclass(frozen=True)
class _Bound:
    """The comparison of one field of `Requirements`."""

    what: str
    """Name of the quantity in messages."""
    value: Callable[[Measured], float | None]
    holds: Callable[[float, float], bool]
    """(measured, bound); written so that NaN never holds."""
    words: Callable[[Measured, float, float], str]
    """(measured, value, bound) to the reason of a refusal."""


_most, _least = operator.le, operator.ge  # of (measured, bound)


def _larger(measured: Measured) -> float | None:
    one, many = measured.single_speedup, measured.speedup
    if one is None or many is None:
        return None
    return math.nan if math.isnan(one) or math.isnan(many) else max(one, many)


def _batches(measured: Measured) -> str:
    return f"batches of {measured.batch}" if measured.batch else "batches"


_BOUNDS: dict[str, _Bound] = {
    "relative": _Bound(
        "the difference of outputs",
        lambda one: one.relative,
        _most,
        lambda _, value, bound: f"outputs differ by {value:.2g} of the largest (allowed {bound:g})",
    ),
    "agreement": _Bound(
        "the agreement of top-1",
        lambda one: one.agreement,
        _least,
        lambda one, value, bound: f"{one.agrees.format(value)} (required {bound:.1%})",
    ),
    "cosine": _Bound(
        "the lowest cosine of outputs",
        lambda one: one.cosine,
        _least,
        lambda _, value, bound: f"the cosine of outputs falls to {value:.4f} (required {bound:g})",
    ),
    "mean_cosine": _Bound(
        "the mean cosine of outputs",
        lambda one: one.mean_cosine,
        _least,
        lambda _, value, bound: f"the mean cosine of outputs is {value:.4f} (required {bound:g})",
    ),
    "accuracy_drop": _Bound(
        "the drop of top-1",
        lambda one: None if one.accuracy is None else one.accuracy.drop,
        lambda value, bound: value <= bound + _ROUNDING,
        lambda one, _, bound: f"{_told_drop(one.accuracy, bound)}",
    ),
    "top1": _Bound(
        "top-1",
        lambda one: one.top1,
        _least,
        lambda _, value, bound: f"top-1 is {value:.1%} (required {bound:.1%})",
    ),
    "speedup": _Bound(
        "the speed-up in batches",
        lambda one: one.speedup,
        _least,
        lambda one, value, bound: f"it runs {value:.2f} times as fast in {_batches(one)} (required {bound:g})",
    ),
    "any_speedup": _Bound(
        "the speed-up",
        _larger,
        lambda value, bound: value > bound,
        lambda one, _, bound: (
            f"it runs {one.single_speedup:.2f} times as fast for one image, {one.speedup:.2f} in {_batches(one)} "
            f"(required more than {bound:g} for either)"
        ),
    ),
    "latency_ms": _Bound(
        "the latency",
        lambda one: one.latency_ms,
        _most,
        lambda _, value, bound: f"one image takes {value:.3g} ms (allowed {bound:g})",
    ),
    "memory_mib": _Bound(
        "the peak memory",
        lambda one: one.memory_mib,
        _most,
        lambda _, value, bound: f"memory peaks at {value:.3g} MiB (allowed {bound:g})",
    ),
    "size_mib": _Bound(
        "the size",
        lambda one: one.size_mib,
        _most,
        lambda _, value, bound: f"the files take {value:.3g} MiB (allowed {bound:g})",
    ),
}

_RANGES = {"agreement": (0, 1), "top1": (0, 1), "cosine": (-1, 1), "mean_cosine": (-1, 1)}
"""Smallest and largest value of a bound; other bounds are at least 0."""


def failures(measured: Measured, requirements: Requirements) -> tuple[str, ...]:
    """The reasons of a refusal, one for each bound that does not hold; () when all hold.

    A bound does not hold for a quantity that was not measured or is NaN. Outputs that are not finite are refused
    without any bound. With `strict`, `doubts` are reasons too.
    """
    reasons = []
    for name, rule in _BOUNDS.items():
        bound, value = getattr(requirements, name), rule.value(measured)
        if bound is None:
            if name == "relative" and value is not None and not math.isfinite(value):
                reasons.append("outputs are not finite (NaN or infinity)")
        elif value is None:
            reasons.append(f"{rule.what} was not measured (bound {bound:g})")
        elif not rule.holds(value, bound):
            reasons.append(rule.words(measured, value, bound))
    return (*reasons, *(doubts(measured, requirements) if requirements.strict else ()))


def doubts(measured: Measured, requirements: Requirements) -> tuple[str, ...]:
    """What cannot be told from so few labelled images, and how many would be enough; () when these are enough.

    There are too few when the 95% interval of the drop contains drops that are allowed and drops that are not. The drop
    itself still decides, unless the requirements are strict.
    """
    paired, allowed = measured.accuracy, requirements.accuracy_drop
    if paired is None or allowed is None or not paired.is_open(allowed):
        return ()
    enough = paired.images_to_tell(allowed)
    low, high = paired.interval
    found = f"the drop is {paired.drop:.2f}, its 95% interval {low:.2f} to {high:.2f}"
    if (worth := 100 / paired.num_images) >= allowed > 0:
        found += f", and one image is worth {_points(worth)}"
    whether = f"whether top-1 drops by more than {_points(allowed)}"
    if enough is None:
        advice = "the drop is as large as what is allowed, so that more images may not tell either: allow more or less"
        return (f"{paired.num_images:,} images do not tell {whether}: {found}; {advice}",)
    told = f"{paired.num_images:,} images are too few to tell {whether}: {found}"
    return (f"{told}; about {enough:,} images would be enough",)


def require(what: str, reasons: Iterable[str], advice: str = "") -> None:
    """Raises GateError with `what`, the reasons and the advice when there are reasons."""
    told = list(reasons)
    if not told:
        return
    if advice:
        told.append(advice)
    raise GateError(f"{what} was refused, nothing was written: {'; '.join(told)}")


def _points(number: float) -> str:
    return f"{number:.3g} point{'' if number == 1 else 's'}"


def _told_drop(paired: Paired | None, allowed: float) -> str:
    assert paired is not None
    low, high = paired.interval
    return (
        f"top-1 drops by {paired.drop:.2f} points, 95% interval {low:.2f} to {high:.2f}, on "
        f"{paired.num_images:,} images (allowed {allowed:g})"
    )
