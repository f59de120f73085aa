"""The ladder of int8 programs, from the one that changes least work to those that keep most in float, and its climb.

Nothing here knows how a program is made, judged or timed: see `trials`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from vitsmith.compress.sites import describe_sites
from vitsmith.errors import GateError
from vitsmith.evaluate.speed import Speedup
from vitsmith.finite import require_numbers

STRENGTHS = (0.5, 0.75, 0.95)
"""SmoothQuant's, the paper's first and NNCF's last."""


_AS_FAST = 0.95  # ratios of one program measured twice differ by some percent


@dataclass(frozen=True)
class Rung:
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


FIRST_RUNGS = (Rung("dynamic"), Rung("static"), *(Rung("static", strength) for strength in STRENGTHS))
"""Everything in int8. Above them come those that leave the most sensitive places in float."""


@dataclass(frozen=True)
class Judged:
    """Answers on the images that judge, beside those of the torch model."""

    agreement: float
    """Share of images with the same best class; of models that give embeddings, their mean cosine."""
    cosine: float
    """Mean cosine of the outputs."""
    top1: float | None = None
    """With labels."""


@dataclass(frozen=True)
class Attempt:
    """What one program came to."""

    name: str
    rung: Rung | None
    """None: a float program."""
    rest: str
    """What is not int8 is computed in: 'fp32' or 'bf16'."""
    mib: float | None = None
    judged: Judged | None = None
    speedup: Speedup | None = None
    reason: str = ""
    """Why not; '' for one that meets the demands."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        judged, speedup = self.judged, self.speedup
        return {
            "program": self.name,
            "rest": self.rest,
            "float_sites": list(self.rung.float_sites) if self.rung else None,
            "mib": self.mib,
            "top1": judged.top1 if judged else None,
            "agreement": judged.agreement if judged else None,
            "cosine": judged.cosine if judged else None,
            "speedup": speedup.batches if speedup else None,
            "speedup_one_image": speedup.single if speedup else None,
            "images_per_second": speedup.after.images_per_second if speedup else None,
            "latency_ms": speedup.after.latency_ms if speedup else None,
            "reason": self.reason,
        }


@dataclass(frozen=True)
class Demands:
    """What an int8 program must keep, and what it must give for that."""

    max_drop: float = 0.5
    """With labels: points of top-1 that may be lost."""
    min_agreement: float = 0.99
    """Without: least share of images with the same answer."""
    min_speedup: float = 1.2
    """Least images/s as a multiple of the fastest float program's."""
    fastest: bool = False
    """Go on to the end and take the fastest that meets the rest, in place of the first."""

    def __post_init__(self) -> None:
        require_numbers(self)

    def refuse_answers(self, judged: Judged, top1: float | None) -> str:
        """Why such answers are not good enough beside a float model of that accuracy; '' when they are."""
        if top1 is not None and judged.top1 is not None:
            drop = 100 * (top1 - judged.top1)
            return f"loses {drop:.2f} points (allowed {self.max_drop:g})" if drop > self.max_drop + 1e-9 else ""
        if judged.agreement >= self.min_agreement:
            return ""
        return f"agrees on {judged.agreement:.1%} (required {self.min_agreement:.1%})"

    def refuse_speed(self, speedup: Speedup) -> str:
        """Why such a program is not fast enough; '' when it is."""
        if speedup.batches >= self.min_speedup:
            return ""
        return f"{speedup.batches:.2f} times float's speed (required {self.min_speedup:g})"


class Trials(Protocol):
    """Makes, judges and times programs. Raises ProgramError for one that cannot be made or does not run."""

    top1: float | None
    """Of the torch model, with labels."""
    rests: tuple[str, ...]
    """What everything that is not int8 may be computed in, the best first."""
    sites: tuple[str, ...]
    """Places that may be left in float."""

    def make(self, rung: Rung, rest: str) -> float:
        """Makes a program, which the next two are then about, and gives its size in MiB."""

    def judge(self) -> Judged:
        """What it answers."""

    def race(self) -> Speedup:
        """How fast it is beside float."""

    def rank(self, smooth: float | None) -> Sequence[str]:
        """`sites`, the most sensitive first, under SmoothQuant of that strength."""


class ProgramError(GateError):
    """A program that could not be made or does not run."""


@dataclass(frozen=True)
class Climb:
    """How far it went."""

    attempts: tuple[Attempt, ...]
    chosen: Attempt | None
    """None: keep float."""
    ranking: tuple[str, ...] = ()
    """Places, the most sensitive first; () when it was not needed."""


def climb(trials: Trials, demands: Demands, on_attempt: Callable[[Attempt], None] = lambda _: None) -> Climb:
    """Tries the rungs in their order up to the first that meets the demands.

    When a static one answers well enough and is too slow, the climb ends: those above leave more in float, and none is
    faster. When all answer too badly, the most faithful is tried once more with the rest in float32.
    """
    attempts: list[Attempt] = []

    def ends_with(rung: Rung, rest: str) -> bool:
        attempts.append(_try(trials, demands, rung, rest))
        on_attempt(attempts[-1])
        if not attempts[-1].reason:
            return not demands.fastest
        return rung.kind == "static" and attempts[-1].speedup is not None

    best_rest, *other_rests = trials.rests
    ranking: tuple[str, ...] = ()
    ended = any(ends_with(rung, best_rest) for rung in FIRST_RUNGS)
    faithful = _most_faithful(attempts)
    if not ended and faithful and _fastest(attempts) is None:
        ranking = tuple(trials.rank(faithful.smooth))
        rungs = [replace(faithful, float_sites=sites) for sites in float_choices(ranking)]
        ended = any(ends_with(rung, best_rest) for rung in rungs)
        faithful = _most_faithful(attempts)
        if not ended and faithful and _fastest(attempts) is None:
            any(ends_with(faithful, rest) for rest in other_rests)
    return Climb(tuple(attempts), _fastest(attempts), ranking)


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


def _try(trials: Trials, demands: Demands, rung: Rung, rest: str) -> Attempt:
    blank = Attempt(rung.name, rung, rest)
    try:
        blank = replace(blank, mib=trials.make(rung, rest))
        blank = replace(blank, judged=trials.judge())
        assert blank.judged is not None
        if reason := demands.refuse_answers(blank.judged, trials.top1):
            return replace(blank, reason=reason)
        speedup = trials.race()
    except ProgramError as error:
        return replace(blank, reason=str(error))
    return replace(blank, speedup=speedup, reason=demands.refuse_speed(speedup))


def _fastest(attempts: Sequence[Attempt]) -> Attempt | None:
    """Of those that meet the demands; of several as fast, within what measuring can tell, the most faithful."""
    good = [(one, one.speedup.batches, one.judged.cosine) for one in attempts if one.speedup and one.judged]
    good = [row for row in good if not row[0].reason]
    best = max((speed for _, speed, _ in good), default=0.0)
    near = [(cosine, one) for one, speed, cosine in good if speed >= _AS_FAST * best]
    return max(near, key=lambda pair: pair[0])[1] if near else None


def _most_faithful(attempts: Sequence[Attempt]) -> Rung | None:
    """The static rung whose outputs point most nearly where they should: a finer measure than answers."""
    static = [one for one in attempts if one.judged and one.rung and one.rung.kind == "static"]
    best = max(static, key=lambda one: one.judged.cosine if one.judged else 0.0, default=None)
    return best.rung if best else None
