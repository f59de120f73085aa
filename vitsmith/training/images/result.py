"""What happened in a run on images, and what its model answers at the end."""

from __future__ import annotations

from dataclasses import dataclass

from vitsmith.evaluation.scores import Scores
from vitsmith.training.images.validation import Predicted
from vitsmith.training.monitor.events import Evaluated, StepDone, Warned


@dataclass(frozen=True, eq=False, repr=False)
class TrainResult:
    """What happened in a run. The model holds the weights of the last update, or their running mean."""

    history: tuple[StepDone, ...]
    evaluations: tuple[Evaluated, ...]
    warnings: tuple[Warned, ...]
    predicted: Predicted
    """The final model's answers for the held-out images."""
    tested: Scores | None = None
    """Scores of the final model on the test images; None where the data set has none."""

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
        """The evaluation with the highest top-1, the first of equal ones."""
        return max(self.evaluations, key=lambda evaluated: evaluated.scores.top1)
