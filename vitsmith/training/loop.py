"""The training loop: reads batches, makes updates, evaluations and checkpoints, and reports each to a listener.

It prints nothing. It can begin at any update and end after any; the results do not depend on where.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from vitsmith.data.batches.device import augment_on_device
from vitsmith.data.batches.load import Batch, Crops, training_batches
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import ConfigError, DatasetError, InputError
from vitsmith.evaluation.scores import Scores, score_logits
from vitsmith.finite import count_not_finite
from vitsmith.models.build import ImageModel
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.training.checkpoint.disk import CheckpointWriter
from vitsmith.training.checkpoint.saver import Saving
from vitsmith.training.devices import Devices
from vitsmith.training.images.result import TrainResult
from vitsmith.training.images.validation import Predicted, predict_logits
from vitsmith.training.learner import Learner
from vitsmith.training.memory.plan import is_out_of_memory, next_smaller
from vitsmith.training.monitor.clock import Clock
from vitsmith.training.monitor.events import Evaluated, Event, Listener, StepDone, Warned, ignore
from vitsmith.training.monitor.past import Past
from vitsmith.training.monitor.peak import training_flops
from vitsmith.training.monitor.unreadable import Complaints
from vitsmith.training.monitor.watches import Watches, answers_diverged, diverged
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.step import apply_gradients, compute_gradients
from vitsmith.training.stop import EVALUATION, StopRequest, finishing

_EVALUATION_BATCH = 64
_NOTHING = Past()


@dataclass(eq=False)
class Training:
    """One run in this process. `go` carries it out."""

    learner: Learner
    splits: Splits
    recipe: TrainRecipe
    images: ImageSpec
    devices: Devices
    micro: int
    """Images computed at once on this device; halved when memory runs out."""
    stop: StopRequest
    checkpoints: CheckpointWriter | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """Facts to write beside a checkpoint's tensors."""
    on_event: Listener = ignore
    peak_flops: float | None = None
    """The highest rate of one device, in operations per second, for `peak_share`; raised when a run is faster."""

    def go(self, past: Past = _NOTHING) -> TrainResult:
        """Trains from after `past` to the end, and leaves the model in eval mode with the weights to keep.

        The same seed on the same machine gives the same losses; torch's global random state is left as it was.
        Raises Stopped when asked to stop, DatasetError for too many images that cannot be read, OutputError when a
        checkpoint cannot be written, InputError when the loss is no longer a number.
        """
        check_model(self.learner.model, self.splits)
        self._begin(past)
        try:
            self._go_on(past.step)
            return self._finish()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"out of memory after {self._done} updates with {self.micro} images at once: lower batch.micro or "
                "model.image_size, or set batch.checkpointing=on"
            ) from error

    def _go_on(self, start: int) -> None:
        recipe, steps = self.recipe, self.recipe.schedule.steps
        if start == steps:  # stopped or killed between the last update and the end of the run
            self._report(self.evaluate(steps))
            return
        with own_randomness(self.devices), closing(self._batches(start)) as batches:
            clock = Clock()
            for step in range(start, steps):
                with clock.waiting():
                    crops = next(batches)
                self._report(self._update(crops, step, clock))
                done = step + 1
                if done == steps:
                    self._checkpoint(done)  # before anything else can go wrong
                clock.restart()
                if done == steps or (recipe.run.eval_every and done % recipe.run.eval_every == 0):
                    self._report(self.evaluate(done))
                    clock.restart()
                self._checkpoint_when_due(done)

    def _begin(self, past: Past) -> None:
        self._done = past.step
        self._history, self._evaluations = list(past.history), list(past.evaluations)
        self._warnings = list(past.warnings)
        parts = {"train": self.splits.train, "held-out": self.splits.val, "test": self.splits.test}
        self._complaints = Complaints(parts, self.recipe.data.skip_unreadable)
        self._saving = Saving(
            self.learner,
            self.checkpoints,
            self.stop,
            self.devices,
            every=self.recipe.run.checkpoint_every,
            report=self._report,
        )
        self._predicted: Predicted | None = None
        self._watches = Watches(self.recipe, classes=self.splits.classes)
        events: list[StepDone | Evaluated] = [*past.history, *past.evaluations]
        for event in sorted(events, key=lambda event: event.step):
            self._watches.on_event(event)

    def evaluate(self, step: int) -> Evaluated:
        """Scores the model, or its running mean if it has one, on the held-out images; each process takes its share."""
        began = time.perf_counter()
        ema = self.learner.ema
        with finishing(EVALUATION), ema.swapped() if ema is not None else nullcontext():
            self._predicted = self._predict(self.splits.val, "held-out")
        if count_not_finite(self._predicted.logits):
            raise InputError(answers_diverged(step, self.recipe))
        scores = score_logits(self._predicted.logits, self._predicted.labels, self.recipe.loss.kind)
        return Evaluated(step, scores, time.perf_counter() - began)

    def _update(self, crops: Crops, step: int, clock: Clock) -> StepDone:
        loss = self._gradients(crops, step)
        norm, rate = apply_gradients(self.learner, self.recipe, step)
        loss_value, norm_value = float(self.devices.mean(loss)), float(norm)
        if not (np.isfinite(loss_value) and np.isfinite(norm_value)):
            raise InputError(diverged(step + 1, loss_value, norm_value, self.recipe))
        seconds, waiting = clock.read()
        images_per_second = self.recipe.batch.size / seconds
        share = None
        if self.peak_flops:
            reached = images_per_second * training_flops(self.learner.model.config)
            # Other work may have slowed down the products that were measured: a rate that was reached is possible.
            self.peak_flops = max(self.peak_flops, reached / self.devices.count)
            share = reached / (self.devices.count * self.peak_flops)
        return StepDone(step + 1, loss_value, rate, norm_value, images_per_second, waiting, share)

    def _gradients(self, crops: Crops, step: int) -> torch.Tensor:
        """The gradients of one update; when memory runs out, again in smaller slices of the same batch."""
        while True:
            try:
                slices = [self._prepare(part) for part in _cut(crops, self.micro)]
                return compute_gradients(self.learner, slices, self.recipe, step, self.devices)
            except (RuntimeError, MemoryError) as error:
                smaller = next_smaller(self.recipe, self.micro, devices=self.devices.count)
                alone = self.devices.count == 1  # otherwise the others wait in a collective for this process
                if not (is_out_of_memory(error) and smaller and alone):
                    raise
            self.learner.optimizer.zero_grad()
            gc.collect()
            if self.devices.device.type == "cuda":
                torch.cuda.empty_cache()
            told = f"out of memory with {self.micro} images at once: going on with {smaller}, the batch stays the same"
            self._report(Warned(step + 1, told))
            self.micro = smaller

    def _prepare(self, crops: Crops) -> Batch:
        device = self.devices.device
        on_device = Crops(crops.images.to(device), crops.labels.to(device), crops.seeds)
        recipe, classes = self.recipe, len(self.splits.classes)
        return augment_on_device(
            on_device, recipe.augment, self.images, classes=classes, smoothing=recipe.loss.smoothing
        )

    def _batches(self, start: int) -> Generator[Crops]:
        recipe = self.recipe
        return training_batches(
            self.splits.train,
            self.images,
            recipe.augment,
            batch=recipe.batch.size,
            seed=recipe.run.seed,
            start=start,
            part=self.devices.index,
            parts=self.devices.count,
            skip_unreadable=recipe.data.skip_unreadable,
            threads=recipe.run.workers,
            on_unreadable=self._complaints.of("train").add,
        )

    def _predict(self, samples: Samples, which: str) -> Predicted:
        """The model's answers for all samples; each process computes its share."""
        devices = self.devices
        part = predict_logits(
            self.learner.model,
            samples,
            self.images,
            batch=min(self.micro, _EVALUATION_BATCH),
            part=devices.index,
            parts=devices.count,
            skip_unreadable=self.recipe.data.skip_unreadable,
            threads=self.recipe.run.workers,
            on_unreadable=self._complaints.of(which).add,
        )
        self._share_complaints()
        parts = devices.gather(part)
        return part if len(parts) == 1 else Predicted(*map(np.concatenate, zip(*parts, strict=True)))

    def _share_complaints(self) -> None:
        for complaint in self._complaints.share(self.devices):
            self._report(Warned(self._done, complaint))

    def _checkpoint_when_due(self, done: int) -> None:
        """Saves when it is time, or when the run is asked to stop; then raises Stopped."""
        if done == self.recipe.schedule.steps:
            return
        if self._saving.due(done):
            self._share_complaints()
            self._checkpoint(done)
        self._saving.go_on(done)

    def _checkpoint(self, done: int) -> None:
        self._saving.save(done, self.facts | {"micro": self.micro})

    def _report(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self._history.append(event)
            self._done = event.step
        elif isinstance(event, Evaluated):
            self._evaluations.append(event)
        elif isinstance(event, Warned):
            self._warnings.append(event)
        self.on_event(event)
        if isinstance(event, StepDone | Evaluated):
            for message in self._watches.on_event(event):
                self._report(Warned(event.step, message))

    def _finish(self) -> TrainResult:
        learner = self.learner
        if learner.ema is not None:
            learner.ema.keep()
        learner.model.eval()
        assert self._predicted is not None
        tested = self._test()
        return TrainResult(
            tuple(self._history), tuple(self._evaluations), tuple(self._warnings), self._predicted, tested
        )

    def _test(self) -> Scores | None:
        if self.splits.test is None:
            return None
        try:
            answers = self._predict(self.splits.test, "test")
        except DatasetError as error:  # a bad file must not cost the run
            if self.devices.count > 1:  # the others wait for this process
                raise
            self._report(Warned(self._done, f"the test images were not scored: {error}"))
            return None
        return score_logits(answers.logits, answers.labels, self.recipe.loss.kind)


def check_model(model: ImageModel, splits: Splits) -> None:
    """Raises ConfigError when the model does not fit the data."""
    classes = len(splits.classes)
    if model.config.classes != classes:
        raise ConfigError(f"the model has {model.config.classes} classes and the data {classes}: make it for {classes}")
    if isinstance(model, VisionTransformer) and model.config.pooling.endswith("unpooled"):
        raise ConfigError(f"pooling {model.config.pooling!r} gives logits for every token: train with 'token' or 'gap'")


def _cut(crops: Crops, micro: int) -> Iterator[Crops]:
    """Equal slices of `micro` images, in order."""
    for at in range(0, len(crops.labels), micro):
        yield Crops(*(part[at : at + micro] for part in crops))


@contextmanager
def own_randomness(devices: Devices) -> Iterator[None]:
    """Restores torch's global generators afterwards: every update seeds them."""
    with torch.random.fork_rng(devices=[devices.device] if devices.device.type == "cuda" else []):
        yield
