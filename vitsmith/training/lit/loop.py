"""The loop of `lit`: reads batches of pairs, makes updates, evaluations and checkpoints. It prints nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vitsmith.errors import InputError
from vitsmith.models.lit import normalize
from vitsmith.training.checkpoint.disk import CheckpointWriter
from vitsmith.training.checkpoint.saver import Saving
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices
from vitsmith.training.lit.batches import Pairs, PairSource
from vitsmith.training.lit.evaluation import Gallery, LitEvaluation, evaluate
from vitsmith.training.lit.history import LitEvent, LitListener, LitPast, LitResult, ignore
from vitsmith.training.lit.step import cap_temperature, compute_gradients
from vitsmith.training.lit.towers import TextSide, Towers
from vitsmith.training.memory.plan import is_out_of_memory
from vitsmith.training.monitor.clock import Clock
from vitsmith.training.monitor.events import StepDone, Warned
from vitsmith.training.monitor.unreadable import Complaints
from vitsmith.training.monitor.watches import diverged
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.step import apply_gradients
from vitsmith.training.stop import EVALUATION, StopRequest, finishing

_TEXTS = 256  # encoded at once in an evaluation
_NOTHING = LitPast()


@dataclass(eq=False)
class LitTraining:
    """One run in this process. `go` carries it out."""

    towers: Towers
    state: TrainingState
    """The state of the towers' `TextSide`."""
    source: PairSource
    tokens: torch.Tensor
    """(captions, L) int32: the tokens of each training caption."""
    held_out: Gallery
    unseen: Gallery | None
    recipe: LitRecipe
    devices: Devices
    micro: int
    """Captions computed at once."""
    stop: StopRequest
    complaints: Complaints
    checkpoints: CheckpointWriter | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts to write beside a checkpoint's tensors."""
    on_event: LitListener = ignore

    def go(self, past: LitPast = _NOTHING) -> LitResult:
        """Trains from after `past` to the end, and leaves the text side in eval mode with the weights to keep.

        The same seed on the same machine gives the same losses. Raises Stopped when asked to stop, DatasetError for
        too many images that cannot be read, OutputError when a checkpoint cannot be written, InputError when the loss
        is no longer a number.
        """
        # Captions of the same tokens (they differ in capitals, or after the last token read) cannot be told apart.
        self._alike = torch.unique(self.tokens, dim=0, return_inverse=True)[1]
        self._done = past.step
        self._history, self._evaluations, self._warnings = (
            list(past.history),
            list(past.evaluations),
            list(past.warnings),
        )
        self._saving = Saving(
            self.state,
            self.checkpoints,
            self.stop,
            self.devices,
            every=self.recipe.run.checkpoint_every,
            report=self._report,
        )
        try:
            self._go_on(past.step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"out of memory after {self._done} updates with {self.micro} captions at once: lower batch.micro"
            ) from error
        if self.state.ema is not None:
            self.state.ema.keep()
        self.state.model.eval()
        return LitResult(tuple(self._history), tuple(self._evaluations), tuple(self._warnings))

    def evaluate(self, step: int) -> LitEvaluation:
        """Scores the text side, or its running mean if it has one: the main process does, all get the result."""
        found: LitEvaluation | None = None
        if self.devices.main:
            ema = self.state.ema
            with finishing(EVALUATION), ema.swapped() if ema is not None else nullcontext():
                found = evaluate(self._encode, self.held_out, self.unseen, self.towers.text.templates, step)
        evaluations = self.devices.gather(found)[0]
        assert evaluations is not None
        return evaluations

    def _go_on(self, start: int) -> None:
        steps, every = self.recipe.schedule.steps, self.recipe.run.eval_every
        if start == steps:  # stopped or killed between the last update and the end of the run
            self._report(self.evaluate(steps))
            return
        with closing(self.source.batches(start)) as batches:
            clock = Clock()
            for step in range(start, steps):
                with clock.waiting():
                    pairs = next(batches)
                self._report(self._update(pairs, step, clock))
                done = step + 1
                if done == steps:
                    self._checkpoint(done)  # before anything else can go wrong
                clock.restart()
                if done == steps or (every and done % every == 0):
                    self._share_complaints()
                    self._report(self.evaluate(done))
                    clock.restart()
                if done < steps:
                    if self._saving.due(done):
                        self._share_complaints()
                        self._checkpoint(done)
                    self._saving.go_on(done)

    def _update(self, pairs: Pairs, step: int, clock: Clock) -> StepDone:
        recipe, device = self.recipe, self.devices.device
        captions = pairs.labels.cpu()
        tokens, alike = self.tokens[captions].to(device), self._alike[captions].to(device)
        loss = compute_gradients(self.state, pairs.images, tokens, alike, recipe, self.micro, self.devices)
        norm, rate = apply_gradients(self.state, recipe, step)
        assert isinstance(self.state.model, TextSide)
        cap_temperature(self.state.model, recipe.loss.max_temperature)
        loss_value, norm_value = float(loss), float(norm)
        if not (np.isfinite(loss_value) and np.isfinite(norm_value)):
            raise InputError(diverged(step + 1, loss_value, norm_value, recipe))
        seconds, waiting = clock.read()
        return StepDone(step + 1, loss_value, rate, norm_value, recipe.batch.size / seconds, waiting)

    @torch.no_grad()
    def _encode(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """float32 (T, E) unit vectors, as the finished model will give them."""
        tokens = torch.from_numpy(self.towers.tokenizer(texts))
        found = [
            normalize(self.towers.lit.text(part.to(self.devices.device))).cpu() for part in torch.split(tokens, _TEXTS)
        ]
        return torch.cat(found).numpy()

    def _share_complaints(self) -> None:
        for complaint in self.complaints.share(self.devices):
            self._report(Warned(self._done, complaint))

    def _checkpoint(self, done: int) -> None:
        self._saving.save(done, self.facts)

    def _report(self, event: LitEvent) -> None:
        if isinstance(event, StepDone):
            self._history.append(event)
            self._done = event.step
        elif isinstance(event, LitEvaluation):
            self._evaluations.append(event)
        elif isinstance(event, Warned):
            self._warnings.append(event)
        self.on_event(event)
