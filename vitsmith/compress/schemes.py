"""The ladder of int8 programs, from the one that changes least work to those that keep most in float, and its climb.

Nothing here knows how a program is made, judged or timed: see `trials`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from vitsmith.compress.sites import describe_sites
from vitsmith.errors import GateError
from vitsmith.evaluation.speed import Speedup
from vitsmith.gate import Measured, Paired, Requirements, doubts, failures

STRENGTHS = (0.5, 0.75, 0.95)
"""SmoothQuant's, the paper's first and NNCF's last."""


_AS_FAST = 0.95  # ratios of one program measured twice differ by some percent


@dataclass(frozen=True)
class Scheme:
    """One way to make an int8 program."""

    kind: Literal["dynamic", "static"]
    smooth: float | None = None
    """SmoothQuant's strength; None: none."""
    float_sites: tuple[str, ...] = ()
    """Places that stay in float."""

    @property
    def name(self) -> str:
        """'dynamic', 'static min-max', 'SmoothQuant 0.5, patches, block 3 in float'."""
        how = "static min-max" if self.smooth is None else f"SmoothQuant {self.smooth:g}"
        how = "dynamic" if self.kind == "dynamic" else how
        return how + (f", {describe_sites(self.float_sites)} in float" if self.float_sites else "")


FIRST_SCHEMES = (Scheme("dynamic"), Scheme("static"), *(Scheme("static", strength) for strength in STRENGTHS))
"""Everything in int8. Above them come those that leave the most sensitive places in float."""


@dataclass(frozen=True)
class Fidelity:
    """Answers on the images that judge, beside those of the torch model."""

    agreement: float
    """Share of images with the same best class; of models that give embeddings, their mean cosine."""
    cosine: float
    """Mean cosine of the outputs."""
    accuracy: Paired | None = None
    """With labels: of the torch model and of this."""
    embeds: bool = False
    """The model has no classes: `agreement` is the mean cosine."""

    @property
    def top1(self) -> float | None:
        """Share of images that are named rightly, with labels."""
        return None if self.accuracy is None else self.accuracy.after

    @property
    def measured(self) -> Measured:
        """What decides: with labels accuracy, else agreement, of embeddings their mean cosine."""
        if self.accuracy is not None:
            return Measured(accuracy=self.accuracy)
        return Measured(mean_cosine=self.agreement) if self.embeds else Measured(agreement=self.agreement)

    def failures(self, required: Requirements) -> tuple[str, ...]:
        """Why such answers are not good enough; () when they are."""
        return failures(self.measured, self._of_answers(required))

    def doubts(self, required: Requirements) -> tuple[str, ...]:
        """What the labelled images are too few to tell."""
        return doubts(self.measured, self._of_answers(required))

    def _of_answers(self, required: Requirements) -> Requirements:
        return required.of_answers(labelled=self.accuracy is not None, classes=not self.embeds)


@dataclass(frozen=True)
class Attempt:
    """What one program came to."""

    name: str
    scheme: Scheme | None
    """None: a float program."""
    rest: str
    """What is not int8 is computed in: 'fp32' or 'bf16'."""
    mib: float | None = None
    fidelity: Fidelity | None = None
    speedup: Speedup | None = None
    reason: str = ""
    """Why not; '' for one that keeps what is required."""

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
"""Of an int8 program: accuracy where there are labels, else agreement; the speed beside the fastest float program."""


class Trials(Protocol):
    """Makes, judges and times programs. Raises ProgramError for one that cannot be made or does not run."""

    top1: float | None
    """Of the torch model, with labels."""
    rests: tuple[str, ...]
    """What everything that is not int8 may be computed in, the best first."""
    sites: tuple[str, ...]
    """Places that may be left in float."""

    def make(self, scheme: Scheme, rest: str) -> float:
        """Makes a program, which the next two are then about, and gives its size in MiB."""

    def evaluate(self) -> Fidelity:
        """What it answers."""

    def race(self) -> Speedup:
        """How fast it is beside float."""

    def rank(self, smooth: float | None) -> Sequence[str]:
        """`sites`, the most sensitive first, under SmoothQuant of that strength."""


class ProgramError(GateError):
    """A program that could not be made or does not run."""


@dataclass(frozen=True)
class SchemeSearch:
    """How far it went."""

    attempts: tuple[Attempt, ...]
    chosen: Attempt | None
    """None: keep float."""
    ranking: tuple[str, ...] = ()
    """Places, the most sensitive first; () when it was not needed."""


def search_schemes(
    trials: Trials,
    required: Requirements,
    on_attempt: Callable[[Attempt], None] = lambda _: None,
    *,
    fastest: bool = False,
) -> SchemeSearch:
    """Tries the rungs in their order up to the first that keeps what is required; with `fastest` all, for the fastest.

    When a static one answers well enough and is too slow, the climb ends: those above leave more in float, and none is
    faster. When all answer too badly, the most faithful is tried once more with the rest in float32.
    """
    attempts: list[Attempt] = []

    def ends_with(scheme: Scheme, rest: str) -> bool:
        attempts.append(_try(trials, required, scheme, rest))
        on_attempt(attempts[-1])
        if not attempts[-1].reason:
            return not fastest
        return scheme.kind == "static" and attempts[-1].speedup is not None

    best_rest, *other_rests = trials.rests
    ranking: tuple[str, ...] = ()
    ended = any(ends_with(scheme, best_rest) for scheme in FIRST_SCHEMES)
    faithful = _most_faithful(attempts)
    if not ended and faithful and _fastest(attempts) is None:
        ranking = tuple(trials.rank(faithful.smooth))
        schemes = [replace(faithful, float_sites=sites) for sites in float_choices(ranking)]
        ended = any(ends_with(scheme, best_rest) for scheme in schemes)
        faithful = _most_faithful(attempts)
        if not ended and faithful and _fastest(attempts) is None:
            any(ends_with(faithful, rest) for rest in other_rests)
    return SchemeSearch(tuple(attempts), _fastest(attempts), ranking)


def float_choices(ranking: Sequence[str]) -> list[tuple[str, ...]]:
    """What is left in float, step by step: the patch embedding, then also 1, 2, 4 ... of the most sensitive blocks.

    The patch embedding comes first: it is little work, and what it loses all blocks lose. At most half of the others
    follow: beyond that, little is int8.
    """
    first = tuple(site for site in ranking if site == "patches")
    others = [site for site in ranking if site != "patches"]
    choices, count = [first] if first else [], 1
    while count <= len(others) // 2:
        choices.append((*first, *others[:count]))
        count *= 2
    return choices


def _try(trials: Trials, required: Requirements, scheme: Scheme, rest: str) -> Attempt:
    blank = Attempt(scheme.name, scheme, rest)
    try:
        blank = replace(blank, mib=trials.make(scheme, rest))
        fidelity = trials.evaluate()
        blank = replace(blank, fidelity=fidelity)
        if reasons := fidelity.failures(required):
            return replace(blank, reason="; ".join(reasons))
        speedup = trials.race()
    except ProgramError as error:
        return replace(blank, reason=str(error))
    measured = Measured(speedup=speedup.batches, batch=speedup.after.batch)
    return replace(blank, speedup=speedup, reason="; ".join(failures(measured, required.only("speedup"))))


def _fastest(attempts: Sequence[Attempt]) -> Attempt | None:
    """Of those that keep what is required; of several as fast, within what measuring can tell, the most faithful."""
    good = [(one, one.speedup.batches, one.fidelity.cosine) for one in attempts if one.speedup and one.fidelity]
    good = [row for row in good if not row[0].reason]
    best = max((speed for _, speed, _ in good), default=0.0)
    near = [(cosine, one) for one, speed, cosine in good if speed >= _AS_FAST * best]
    return max(near, key=lambda pair: pair[0])[1] if near else None


def _most_faithful(attempts: Sequence[Attempt]) -> Scheme | None:
    """The static rung whose outputs point most nearly where they should: a finer measure than answers."""
    static = [one for one in attempts if one.fidelity and one.scheme and one.scheme.kind == "static"]
    best = max(static, key=lambda one: one.fidelity.cosine if one.fidelity else 0.0, default=None)
    return best.scheme if best else None
