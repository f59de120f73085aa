"""Compares the outputs of a new program with those of its original, in batches of several sizes. Fails closed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vitsmith.arrays import Array, Run
from vitsmith.errors import GateError, InputError, NotFiniteError
from vitsmith.gate.paired import Paired
from vitsmith.gate.requirements import Measured, Requirements, failures, require

Layers = Callable[[Array], Iterable[tuple[str, Array, Array]]]

TIE = 1e-3
"""Default of `Requirements.tie` and of `agreement_of`: classes whose reference outputs differ by no more, as a share of
the largest, count as the same."""
SAME_ANSWERS = Requirements(relative=TIE, agreement=1.0, cosine=0.9999)
"""Requirements of a program in the reference's own precision."""


@dataclass(frozen=True, repr=False)
class Verdict:
    """The result of the gate's comparison."""

    num_images: int
    relative: float
    agreement: float
    cosine: float
    failures: tuple[str, ...]
    first_layer: str = ""
    accuracy: Paired | None = None
    """Accuracy of both on the same labelled images; None without labels."""
    doubts: tuple[str, ...] = ()
    """What cannot be told from so few labelled images."""
    num_texts: int = 0
    """Number of texts compared, for a model with a text tower."""
    embeddings: bool = False
    """Whether outputs are embeddings, which have no top-1: `agreement` compares their largest numbers, unshown."""

    def __str__(self) -> str:
        found = "" if self.embeddings else f"top-1 agreement {self.agreement:.1%}, "
        found += f"difference {self.relative:.2g}, cosine {self.cosine:.6f} on {self.inputs}"
        return f"{'passed' if self.passed else 'failed: ' + '; '.join(self.failures)}, {found}"

    def __repr__(self) -> str:
        return f"<Verdict {self}>"

    @property
    def top1(self) -> tuple[float, float] | None:
        """Top-1 accuracy of the reference and of the candidate; None without labels."""
        return None if self.accuracy is None else (self.accuracy.before, self.accuracy.after)

    @property
    def inputs(self) -> str:
        """The inputs that were compared, as "14 images and 8 texts"."""
        images = f"{self.num_images:,} image{'s' * (self.num_images != 1)}"
        return images + (f" and {self.num_texts:,} text{'s' * (self.num_texts != 1)}" if self.num_texts else "")

    @property
    def passed(self) -> bool:
        return not self.failures

    def require(self, what: str) -> None:
        """Raises GateError, which names the first layer that differs, when there are failures."""
        layer = f"the first layer that differs is {self.first_layer}" if self.first_layer else ""
        require(what, self.failures, layer)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        found: dict[str, Any] = {"num_images": self.num_images}
        if self.num_texts:
            found["num_texts"] = self.num_texts
        found |= {"difference": self.relative, "lowest_cosine": self.cosine}
        if not self.embeddings:
            found["agreement"] = self.agreement
        if self.accuracy is not None:
            found |= {"top1_before": self.accuracy.before, "top1": self.accuracy.after, **self.accuracy.to_dict()}
            found["doubts"] = list(self.doubts)
        return found


def compare(
    reference: Run,
    candidate: Run,
    images: Array,
    requirements: Requirements | None = None,
    *,
    layers: Layers | None = None,
    embeddings: str = "",
) -> Verdict:
    """Runs both on float32 (n, 3, height, width) images, in batches of every required size.

    Uses only the requirements on outputs (default SAME_ANSWERS): difference, agreement and the lowest cosine.
    `embeddings` names the inputs ('images', 'texts') where outputs are embeddings; '' for logits.
    `layers`, called only after a failure, gives (name, reference, candidate) layer by layer for a batch.
    A candidate that raises counts as failed, as does any output that is not finite. Raises InputError when there is
    nothing to compare: no images or no batch sizes.
    """
    requirements = (requirements or SAME_ANSWERS).only("relative", "agreement", "cosine")
    if not len(images) or not requirements.batches:
        raise InputError("the gate has nothing to compare: give it at least one image and one batch size")
    expected = np.concatenate([reference(image) for image in _batches(images, 1)])
    tie = next(one for one in (requirements.tie, requirements.relative, TIE) if one is not None)
    relative, agreement, cosine, problems = 0.0, 1.0, 1.0, []
    for size in requirements.batches:
        batches = _batches(_at_least(images, size), size)
        wanted = _at_least(expected, size)[: len(batches) * size]
        try:
            found = np.concatenate([candidate(batch) for batch in batches])
        except Exception as error:  # whatever a foreign runtime throws
            problems.append(f"batches of {size} do not run ({_first_line(error)})")
            continue
        if found.shape != wanted.shape:
            problems.append(f"batches of {size} give shape {found.shape}, expected {wanted.shape}")
            continue
        relative = max(relative, relative_difference(wanted, found))
        agreement = min(agreement, agreement_of(wanted, found, tie))
        cosine = min(cosine, lowest_cosine(wanted, found))
    measured = Measured(relative=relative, agreement=agreement, cosine=cosine)
    if embeddings:
        told = f"the largest number is at the same position in {{:.1%}} of the embeddings of {embeddings}"
        measured = replace(measured, agrees=told)
    reasons = (*problems, *failures(measured, requirements))
    allowed = TIE if requirements.relative is None else requirements.relative
    first = _first_layer(layers, images[:2], allowed) if reasons and layers else ""
    return Verdict(len(images), relative, agreement, cosine, reasons, first, embeddings=bool(embeddings))


def refusal(reasons: Sequence[str]) -> str:
    """What an object that passed a gate, or did not, says of that behind its numbers: '' when it passed."""
    return f"; refused: {'; '.join(reasons)}" if reasons else ""


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Around a run of the candidate alone: turns NotFiniteError into a GateError that names `what`."""
    try:
        yield
    except NotFiniteError as error:
        raise GateError(f"{what} was refused, nothing was written: {error}") from None


def relative_difference(expected: Array, found: Array) -> float:
    """Largest difference as a share of the largest expected value; infinity when any value is not finite."""
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return float("inf")
    return float(np.abs(found - expected).max()) / max(float(np.abs(expected).max()), 1e-12)


def lowest_cosine(expected: Array, found: Array) -> float:
    """The lowest cosine of any row with its counterpart, over the last axis; -1 when any value is not finite."""
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    cosines = (expected * found).sum(axis=-1) / np.maximum(lengths, 1e-30)
    both_zero = (np.abs(expected).max(axis=-1) == 0) & (np.abs(found).max(axis=-1) == 0)
    lowest = float(np.where(both_zero, 1.0, cosines).min())
    return lowest if np.isfinite(lowest) else -1.0


def mean_cosine(expected: Array, found: Array) -> float:
    """The mean cosine of all rows with their counterparts."""
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    lengths = np.linalg.norm(expected, axis=-1) * np.linalg.norm(found, axis=-1)
    return float(np.mean((expected * found).sum(axis=-1) / np.maximum(lengths, 1e-30)))


def agreement_of(expected: Array, found: Array, tolerance: float = TIE) -> float:
    """Share of rows with the same top class; classes that tie in the reference within `tolerance` count as the same."""
    best = expected.max(axis=-1)
    chosen = np.take_along_axis(expected, found.argmax(axis=-1)[..., None], axis=-1)[..., 0]
    return float(np.mean(best - chosen <= tolerance * max(float(np.abs(expected).max()), 1e-12)))


def first_difference(layers: Iterable[tuple[str, Array, Array]], tolerance: float) -> str:
    """Name of the first layer whose outputs differ by more than `tolerance`, and the difference; '' if none does.

    Outputs that are not finite always differ.
    """
    for name, expected, found in layers:
        if expected.shape != found.shape:
            return f"{name} (shape {found.shape} instead of {expected.shape})"
        difference = relative_difference(expected, found)
        if not np.isfinite(difference) or difference > tolerance:
            return f"{name} (relative difference {difference:.2g})"
    return ""


def _first_layer(layers: Layers, batch: Array, tolerance: float) -> str:
    """The first layer that differs; a program whose layers do not run is still reported as failed."""
    try:
        return first_difference(layers(batch), tolerance)
    except Exception as error:  # whatever a foreign runtime throws
        return f"unknown: the layers do not run ({_first_line(error)})"


def _batches(images: Array, size: int) -> Sequence[Array]:
    """Batches of exactly `size` images; a remainder is left out, but batches of 1 contain every image."""
    return [images[start : start + size] for start in range(0, len(images) - size + 1, size)]


def _at_least(rows: Array, size: int) -> Array:
    """`rows`, repeated from the start until there are `size`."""
    return rows if len(rows) >= size else np.resize(rows, (size, *rows.shape[1:]))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
