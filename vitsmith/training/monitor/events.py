"""The events that a training run reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitsmith.evaluation.scores import Scores


@dataclass(frozen=True)
class StepDone:
    """One update."""

    step: int
    """How many updates are done: 1 after the first."""
    loss: float
    """Mean loss of the batch, before the update."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    images_per_second: float
    """Over all devices, since the last update or evaluation."""
    waiting: float = 0.0
    """Share of that time spent waiting for images."""
    peak_share: float | None = None
    """Arithmetic done as a share of the devices' highest rate known so far; None where no rate is known.

    1 where an update was faster than all before it: then the peak had been measured too low."""


@dataclass(frozen=True)
class Evaluated:
    """The scores on the held-out images after `step` updates."""

    step: int
    scores: Scores
    seconds: float


@dataclass(frozen=True)
class Warned:
    """What is wrong, and what to change."""

    step: int
    message: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint is complete on disk."""

    step: int
    folder: Path


Event = StepDone | Evaluated | Warned | Saved
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does nothing."""
