"""What happened in a run: all of it, what was done before this process went on with it, or how far it came."""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.evaluation.scores import Scores
from vitsmith.training.events import Evaluated, StepDone, Warned
from vitsmith.training.validation import Predicted


@dataclass(frozen=True, eq=False, repr=False)
class TrainResult:
    """What happened in a run. The model holds the weights of the last update, or their running mean."""

    history: tuple[StepDone, ...]
    evaluations: tuple[Evaluated, ...]
    warnings: tuple[Warned, ...]
    predicted: Predicted
    """What the final model says of the held-out images."""
    tested: Scores | None = None
    """Scores of the final model on the test images, where the data set has some beside those held out."""

    def __str__(self) -> str:
        tested = "" if self.tested is None else f"; test {self.tested}"
        return f"{len(self.history):,} updates, held-out {self.final.scores}{tested}"

    def __repr__(self) -> str:
        return f"<TrainResult {self}>"

    @property
    def final(self) -> Evaluated:
        return self.evaluations[-1]

    @property
    def best(self) -> Evaluated:
        """The first of the highest top-1."""
        return max(self.evaluations, key=lambda evaluated: evaluated.scores.top1)


@dataclass(frozen=True)
class Past:
    """What happened before this process went on with the run."""

    step: int = 0
    """How many updates are done."""
    history: tuple[StepDone, ...] = ()
    evaluations: tuple[Evaluated, ...] = ()
    warnings: tuple[Warned, ...] = ()


class Stopped(Exception):  # noqa: N818
    """The run was asked to end before its last update. What it had done is saved."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after {step} updates")
        self.step = step
