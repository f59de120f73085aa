"""The int8 schemes, in the order in which they are tried, and what is found of each.

The order goes from the simplest scheme to those that leave most in float.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vitsmith.compress.quantize.layers import describe_sites
from vitsmith.compress.result import RunEvent
from vitsmith.errors import GateError
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures

STRENGTHS = (0.5, 0.75, 0.95)
"""Strengths of SmoothQuant that are tried: the paper's default first, NNCF's default last."""


_AS_FAST = 0.95  # speed-ups of the same program, measured twice, differ by some percent


@dataclass(frozen=True)
class Scheme:
    """One way to make an int8 program."""

    kind: Literal["dynamic", "static"]
    smooth: float | None = None
    """SmoothQuant's strength; None: without SmoothQuant."""
    float_sites: tuple[str, ...] = ()
    """Parts of the model that stay in float."""

    @property
    def name(self) -> str:
        """'dynamic', 'static min-max', 'SmoothQuant 0.5, patches, block 3 in float'."""
        how = "static min-max" if self.smooth is None else f"SmoothQuant {self.smooth:g}"
        how = "dynamic" if self.kind == "dynamic" else how
        return how + (f", {describe_sites(self.float_sites)} in float" if self.float_sites else "")


FIRST_SCHEMES = (Scheme("dynamic"), Scheme("static"), *(Scheme("static", strength) for strength in STRENGTHS))
"""Everything is int8. Schemes that leave the most sensitive parts in float are tried after these."""


@dataclass(frozen=True)
class Fidelity:
    """How the answers on the evaluation images compare with those of the torch model."""

    agreement: float
    """Share of images with the same top class; for models that give embeddings, the mean cosine."""
    cosine: float
    """Mean cosine of the outputs."""
    accuracy: Paired | None = None
    """Accuracy of the torch model and of this program; None without labels."""
    embeds: bool = False
    """The model has no classes: `agreement` is the mean cosine."""

    @property
    def top1(self) -> float | None:
        """Share of images that are classified correctly; None without labels."""
        return None if self.accuracy is None else self.accuracy.after

    @property
    def measured(self) -> Measured:
        """What the gate compares: accuracy with labels, else agreement, or the mean cosine of embeddings."""
        if self.accuracy is not None:
            return Measured(accuracy=self.accuracy)
        return Measured(mean_cosine=self.agreement) if self.embeds else Measured(agreement=self.agreement)

    def failures(self, required: Requirements) -> tuple[str, ...]:
        """Why such answers are not good enough; () when they are."""
        return failures(self.measured, self._of_answers(required))

    def doubts(self, required: Requirements) -> tuple[str, ...]:
        """What cannot be told from so few labelled images; () when all can."""
        return doubts(self.measured, self._of_answers(required))

    def _of_answers(self, required: Requirements) -> Requirements:
        return required.of_answers(labelled=self.accuracy is not None, classes=not self.embeds)


@dataclass(frozen=True)
class Attempt(RunEvent):
    """One program that was tried, and its results."""

    name: str
    scheme: Scheme | None
    """Scheme of an int8 program; None: a float program."""
    rest: str
    """'fp32' or 'bf16': the precision of everything that is not int8."""
    mib: float | None = None
    fidelity: Fidelity | None = None
    speedup: Speedup | None = None
    reason: str = ""
    """Why the program was refused; '' where it meets the requirements."""

    @property
    def line(self) -> str:
        if self.scheme is None:
            return ""
        return f"{self.name}, rest in {self.rest}: {self.reason or 'keeps what is required'}"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        fidelity, speedup = self.fidelity, self.speedup
        return {
            "program": self.name,
            "rest": self.rest,
            "float_sites": list(self.scheme.float_sites) if self.scheme else None,
            "mib": self.mib,
            "top1": fidelity.top1 if fidelity else None,
            "agreement": fidelity.agreement if fidelity else None,
            "cosine": fidelity.cosine if fidelity else None,
            **(fidelity.accuracy.to_dict() if fidelity and fidelity.accuracy else {}),
            "speedup": speedup.batches if speedup else None,
            "speedup_one_image": speedup.single if speedup else None,
            "images_per_second": speedup.after.images_per_second if speedup else None,
            "latency_ms": speedup.after.latency_ms if speedup else None,
            "reason": self.reason,
        }


REQUIRED = Requirements(accuracy_drop=0.5, agreement=0.99, speedup=1.2)
"""Requirements of an int8 program: accuracy with labels, else agreement; speed-up over the fastest float program."""


class ProgramError(GateError):
    """A program that could not be made or does not run."""


@dataclass(frozen=True)
class SchemeSearch:
    """The result of a search."""

    attempts: tuple[Attempt, ...]
    chosen: Attempt | None
    """The program to take; None: keep float."""
    ranking: tuple[str, ...] = ()
    """Parts of the model, the most sensitive first; () where no ranking was needed."""


def float_choices(ranking: Sequence[str]) -> list[tuple[str, ...]]:
    """Parts left in float, step by step: the patch embedding, then also 1, 2, 4 ... of the most sensitive blocks.

    The patch embedding comes first: it takes little time, and every block inherits its error. At most half of the other
    parts follow; with more of them in float, little would be int8.
    """
    first = tuple(site for site in ranking if site == "patches")
    others = [site for site in ranking if site != "patches"]
    choices, count = [first] if first else [], 1
    while count <= len(others) // 2:
        choices.append((*first, *others[:count]))
        count *= 2
    return choices


def fastest_of(attempts: Sequence[Attempt]) -> Attempt | None:
    """The fastest attempt that meets the requirements; among attempts about as fast, the most faithful."""
    good = [(one, one.speedup.batches, one.fidelity.cosine) for one in attempts if one.speedup and one.fidelity]
    good = [row for row in good if not row[0].reason]
    best = max((speed for _, speed, _ in good), default=0.0)
    near = [(cosine, one) for one, speed, cosine in good if speed >= _AS_FAST * best]
    return max(near, key=lambda pair: pair[0])[1] if near else None


def most_faithful(attempts: Sequence[Attempt]) -> Scheme | None:
    """The static scheme whose outputs have the largest cosine with the original's, a finer measure than agreement."""
    static = [one for one in attempts if one.fidelity and one.scheme and one.scheme.kind == "static"]
    best = max(static, key=lambda one: one.fidelity.cosine if one.fidelity else 0.0, default=None)
    return best.scheme if best else None
