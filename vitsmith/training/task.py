"""What a kind of training must give: batches, updates, evaluations. The loop and the run are the same for all kinds.

The tasks are `images/task.py`, classification by labels or a teacher's answers, and `lit/task.py`, pairs of images and
texts. Where they differ, the task says so; with several processes, all call each method at the same moments.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, Protocol, TypeVar

from torch import Tensor

from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices
from vitsmith.training.monitor.events import EvaluationEvent, Event
from vitsmith.training.monitor.journal import Journal
from vitsmith.training.monitor.unreadable import Complaints
from vitsmith.training.recipes.recipe import AnyRecipe

BatchT = TypeVar("BatchT")
ResultT = TypeVar("ResultT", covariant=True)


class Update(NamedTuple):
    """One update of the weights."""

    loss: Tensor
    """Mean over the batch of all processes before the update, shape ()."""
    gradient_norm: Tensor
    """Before clipping, shape ()."""
    learning_rate: float


class TrainingTask(Protocol[BatchT, ResultT]):
    """One kind of training, with its model and data."""

    @property
    def recipe(self) -> AnyRecipe: ...
    @property
    def devices(self) -> Devices: ...
    @property
    def state(self) -> TrainingState:
        """What is trained, and saved in checkpoints."""

    @property
    def complaints(self) -> Complaints:
        """The images that could not be read; they are shared before each checkpoint."""

    @property
    def micro(self) -> int:
        """Images or texts that this device computes at once."""

    @property
    def memory_advice(self) -> str:
        """What `micro` counts, and what to change when memory runs out."""

    def begin(self) -> None:
        """Checks and measures what there is to before the first batch."""

    def batches(self, start: int) -> Generator[BatchT]:
        """Yields this process's share of endless batches from number `start` on."""

    def update(self, batch: BatchT, step: int, journal: Journal) -> Update:
        """Makes update number `step`, from 0."""

    def peak_share(self, images_per_second: float) -> float | None:
        """That rate as a share of the highest; None where none is known."""

    def evaluate(self, step: int, journal: Journal) -> EvaluationEvent:
        """Scores the model, or its running mean if it has one, on held-out data after `step` updates."""

    def watch(self, event: Event) -> list[str]:
        """Warnings about an event, most often none."""

    def finish(self, journal: Journal) -> ResultT:
        """What happened in the run. The model is in eval mode, with the weights to keep."""
