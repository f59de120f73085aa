"""The training of a text tower on pairs of images and texts. The image tower is locked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch

from vitsmith.arrays import Array
from vitsmith.layers.unit import normalize
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices
from vitsmith.training.lit.batches import Pairs, PairSource
from vitsmith.training.lit.captions import Captions
from vitsmith.training.lit.evaluation import Gallery, evaluate
from vitsmith.training.lit.result import LitResult
from vitsmith.training.lit.step import cap_temperature, compute_gradients
from vitsmith.training.lit.towers import TextSide, Towers
from vitsmith.training.monitor.events import Event, LitEvaluation
from vitsmith.training.monitor.journal import Journal
from vitsmith.training.monitor.unreadable import Complaints
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.step import apply_gradients
from vitsmith.training.stop import EVALUATION, finishing
from vitsmith.training.task import Update

_TEXTS = 256  # encoded at once in an evaluation


@dataclass(eq=False)
class LitTask:
    """A text tower that learns to fit a locked image tower. The main process alone evaluates it."""

    towers: Towers
    state: TrainingState
    """The state of the towers' `TextSide`."""
    source: PairSource
    captions: Captions
    held_out: Gallery
    unseen: Gallery | None
    recipe: LitRecipe
    devices: Devices
    micro: int
    """Captions computed at once."""
    complaints: Complaints

    memory_advice = "captions at once: lower batch.micro"

    def begin(self) -> None:
        """Nothing is left to check."""

    def batches(self, start: int) -> Generator[Pairs]:
        """Yields embeddings of images with the numbers of their captions, from batch number `start` on."""
        return self.source.batches(start)

    def update(self, batch: Pairs, step: int, journal: Journal) -> Update:
        """Makes update number `step`, from 0."""
        recipe, device = self.recipe, self.devices.device
        numbers = batch.labels.cpu()
        tokens, alike = self.captions.tokens[numbers].to(device), self.captions.alike[numbers].to(device)
        loss = compute_gradients(self.state, batch.images, tokens, alike, recipe, self.micro, self.devices)
        norm, rate = apply_gradients(self.state, recipe, step)
        assert isinstance(self.state.model, TextSide)
        cap_temperature(self.state.model, recipe.loss.max_temperature)
        return Update(loss, norm, rate)

    def peak_share(self, images_per_second: float) -> float | None:
        """None: the images are embedded before, and only the arithmetic of the text tower would count."""
        return None

    def evaluate(self, step: int, journal: Journal) -> LitEvaluation:
        """Scores the text side, or its running mean if it has one: the main process does, all get the result."""
        self.complaints.share(journal)
        found: LitEvaluation | None = None
        if self.devices.main:
            with finishing(EVALUATION), self.state.averaged():
                found = evaluate(self._encode, self.held_out, self.unseen, self.towers.text.templates, step)
        evaluations = self.devices.gather(found)[0]
        assert evaluations is not None
        return evaluations

    def watch(self, event: Event) -> list[str]:
        """No warnings: the limits are those of classification."""
        return []

    def finish(self, journal: Journal) -> LitResult:
        """What happened in the run."""
        evaluations = tuple(each for each in journal.evaluations if isinstance(each, LitEvaluation))
        return LitResult(tuple(journal.history), evaluations, tuple(journal.warnings))

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> Array:
        """float32 (T, E) unit vectors, as the finished model will give them."""
        tokens = torch.from_numpy(self.towers.tokenizer(texts))
        found = [
            normalize(self.towers.lit.text(part.to(self.devices.device))).cpu() for part in torch.split(tokens, _TEXTS)
        ]
        return torch.cat(found).numpy()
