"""The gate: after every transformation the new program is compared with the one it came from, and fails closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.errors import GateError, InputError, NotFiniteError
from vitsmith.finite import require_numbers

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
Layers = Callable[[Array], Iterable[tuple[str, Array, Array]]]


@dataclass(frozen=True)
class Thresholds:
    """What a transformation may change."""

    relative: float = 1e-3
    """Largest difference of any output, as a share of the largest reference output."""
    agreement: float = 1.0
    """Share of images on which both name the same class."""
    cosine: float = 0.9999
    """Lowest cosine between the reference's output of an image and the candidate's."""
    tie: float | None = None
    """Classes whose reference outputs differ by no more, as a share of the largest, count as the same; default
    `relative`."""
    batches: tuple[int, ...] = (1, 2, 7)
    """Batch sizes that must work; a program frozen at one size fails here."""

    def __post_init__(self) -> None:
        require_numbers(self)


@dataclass(frozen=True)
class Verdict:
    """What the gate found."""

    images: int
    relative: float
    agreement: float
    cosine: float
    failures: tuple[str, ...]
    first_layer: str = ""
    top1: tuple[float, float] | None = None
    """Of labelled images, where there were any: the share that the reference names rightly, and the candidate's."""

    @property
    def passed(self) -> bool:
        return not self.failures

    def require(self, what: str) -> None:
        """Raises GateError, naming the first layer that differs, unless the verdict is a pass."""
        if self.failures:
            layer = f"; the first layer that differs is {self.first_layer}" if self.first_layer else ""
            raise GateError(f"{what} was refused, nothing was written: {'; '.join(self.failures)}{layer}")


def compare(
    reference: Run,
    candidate: Run,
    images: Array,
    thresholds: Thresholds | None = None,
    *,
    layers: Layers | None = None,
) -> Verdict:
    """Runs both on float32 (n, 3, height, width) images, in batches of every size asked for.

    `layers`, called only after a failure, gives (name, reference, candidate) layer by layer for a batch.
    A candidate that raises counts as failed, as does any output that is not finite. Raises InputError when there is
    nothing to compare: no images or no batch sizes.
    """
    thresholds = thresholds or Thresholds()
    if not len(images) or not thresholds.batches:
        raise InputError("the gate has nothing to compare: give it at least one image and one batch size")
    expected = np.concatenate([reference(image) for image in _batches(images, 1)])
    tie = thresholds.relative if thresholds.tie is None else thresholds.tie
    relative, agreement, cosine, failures = 0.0, 1.0, 1.0, []
    for size in thresholds.batches:
        batches = _batches(_at_least(images, size), size)
        wanted = _at_least(expected, size)[: len(batches) * size]
        try:
            found = np.concatenate([candidate(batch) for batch in batches])
        except Exception as error:  # whatever a foreign runtime throws
            failures.append(f"batches of {size} do not run ({_first_line(error)})")
            continue
        if found.shape != wanted.shape:
            failures.append(f"batches of {size} give shape {found.shape}, expected {wanted.shape}")
            continue
        relative = max(relative, relative_difference(wanted, found))
        agreement = min(agreement, agreement_of(wanted, found, tie))
        cosine = min(cosine, lowest_cosine(wanted, found))
    if not relative <= thresholds.relative:
        failures.append(f"outputs differ by {relative:.2g} of the largest (allowed {thresholds.relative:g})")
    if not agreement >= thresholds.agreement:
        failures.append(f"top-1 agrees on {agreement:.1%} of the images (required {thresholds.agreement:.1%})")
    if not cosine >= thresholds.cosine:
        failures.append(f"the cosine of outputs falls to {cosine:.4f} (required {thresholds.cosine:g})")
    first = _first_layer(layers, images[:2], thresholds.relative) if failures and layers else ""
    return Verdict(len(images), relative, agreement, cosine, tuple(failures), first)


@contextmanager
def judging(what: str) -> Iterator[None]:
    """Around what is asked of a candidate alone: answers that are not finite raise GateError, which names `what`."""
    try:
        yield
    except NotFiniteError as error:
        raise GateError(f"{what} was refused, nothing was written: {error}") from None


def relative_difference(expected: Array, found: Array) -> float:
    """Largest difference as a share of the largest expected value; infinite when anything is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)


def lowest_cosine(expected: Array, found: Array) -> float:
    """The lowest cosine of any row with its counterpart, over the last axis; -1 when anything is not finite."""
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    cosines = (expected * found).sum(axis=-1) / np.maximum(lengths, 1e-30)
    both_zero = (np.abs(expected).max(axis=-1) == 0) & (np.abs(found).max(axis=-1) == 0)
    lowest = float(np.where(both_zero, 1.0, cosines).min())
    return lowest if np.isfinite(lowest) else -1.0


def agreement_of(expected: Array, found: Array, tolerance: float) -> float:
    """Share of rows with the same best class; a tie of the reference within the tolerance counts as the same."""
    best = expected.max(axis=-1)
    chosen = np.take_along_axis(expected, found.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return float(np.mean(best - chosen <= tolerance * max(float(np.abs(expected).max()), 1e-12)))


def first_difference(layers: Iterable[tuple[str, Array, Array]], tolerance: float) -> str:
    """Name of the first layer whose outputs differ by more than the tolerance, with by how much; '' if none does."""
    for name, expected, found in layers:
        if expected.shape != found.shape:
            return f"{name} (shape {found.shape} instead of {expected.shape})"
        difference = relative_difference(expected, found)
        if not difference <= tolerance:
            return f"{name} (relative difference {difference:.2g})"
    return ""


def _first_layer(layers: Layers, batch: Array, tolerance: float) -> str:
    """The first layer that differs; a program too broken to be looked into must not hide that it failed."""
    try:
        return first_difference(layers(batch), tolerance)
    except Exception as error:  # whatever a foreign runtime throws
        return f"unknown: the layers do not run ({_first_line(error)})"


def _batches(images: Array, size: int) -> Sequence[Array]:
    """Batches of exactly `size`; a remainder is left out, every image is in some batch of size 1."""
    return [images[start : start + size] for start in range(0, len(images) - size + 1, size)]


def _at_least(rows: Array, size: int) -> Array:
    """`rows`, repeated from the start until there are `size`."""
    return rows if len(rows) >= size else np.resize(rows, (size, *rows.shape[1:]))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
