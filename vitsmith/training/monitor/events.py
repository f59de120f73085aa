"""The events that a training run of any kind reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vitsmith.evaluation.accuracy import wilson_interval
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
class LitEvaluation:
    """Scores of the text tower after `step` updates. Shares are between 0 and 1."""

    step: int
    num_images: int
    """Held-out images."""
    num_captions: int
    """Distinct captions of the held-out images."""
    image_to_text: dict[int, float]
    """k -> share of the images that have their caption among the first k."""
    text_to_image: dict[int, float]
    """k -> share of the captions that have one of their images among the first k."""
    seconds: float
    unseen: float | None = None
    """Top-1 accuracy on images of combinations that training never showed; None where the data has none."""
    num_unseen_images: int = 0

    @property
    def image_interval(self) -> tuple[float, float]:
        """95% confidence interval of `image_to_text` at 1 (Wilson)."""
        return wilson_interval(round(self.image_to_text[1] * self.num_images), self.num_images)

    @property
    def text_interval(self) -> tuple[float, float]:
        """95% confidence interval of `text_to_image` at 1 (Wilson)."""
        return wilson_interval(round(self.text_to_image[1] * self.num_captions), self.num_captions)

    @property
    def unseen_interval(self) -> tuple[float, float] | None:
        """95% confidence interval of `unseen` (Wilson)."""
        if self.unseen is None:
            return None
        return wilson_interval(round(self.unseen * self.num_unseen_images), self.num_unseen_images)


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


@dataclass(frozen=True)
class Embedded:
    """How many of the training, held-out or unseen images the locked tower has embedded."""

    which: str
    done: int
    of: int
    step: int = 0


EvaluationEvent = Evaluated | LitEvaluation
Event = StepDone | EvaluationEvent | Warned | Saved | Embedded
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A listener that does nothing."""
