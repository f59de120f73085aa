"""Classification of images, by their labels or by a teacher's answers."""

from __future__ import annotations

import gc
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from vitsmith.data.batches.device import augment_on_device
from vitsmith.data.batches.loader import Batch, Crops, training_batches
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import ConfigError, DatasetError, InputError
from vitsmith.evaluation.scores import Scores, score_logits
from vitsmith.finite import count_not_finite
from vitsmith.models.build import ImageModel
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.training.devices import Devices
from vitsmith.training.images.result import TrainResult
from vitsmith.training.images.validation import Predicted, predict_logits
from vitsmith.training.learner import Learner
from vitsmith.training.memory.plan import is_out_of_memory, next_smaller
from vitsmith.training.monitor.events import Evaluated, Event, StepDone, Warned
from vitsmith.training.monitor.journal import Journal
from vitsmith.training.monitor.unreadable import Complaints
from vitsmith.training.monitor.utilization import measured_peak_flops, training_flops
from vitsmith.training.monitor.watches import Watches, answers_diverged
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.step import apply_gradients, compute_gradients
from vitsmith.training.stop import EVALUATION, finishing
from vitsmith.training.task import Update

_EVALUATION_BATCH = 64


@dataclass(eq=False)
class ImageTask:
    """A model that learns from labelled images. All processes share its evaluations."""

    learner: Learner
    splits: Splits
    recipe: TrainRecipe
    images: ImageSpec
    devices: Devices
    micro: int
    """Images computed at once on this device; halved when memory runs out."""
    measures_peak: bool = False
    """Whether to measure the device before the first update, to tell which share of its rate is reached."""
    peak_flops: float | None = None
    """The highest rate of one device, in operations per second, for `peak_share`; raised when a run is faster."""

    memory_advice = "images at once: lower batch.micro or model.image_size, or set batch.checkpointing=on"

    def __post_init__(self) -> None:
        parts = {"train": self.splits.train, "held-out": self.splits.val, "test": self.splits.test}
        self.complaints = Complaints(parts, self.recipe.data.skip_unreadable, self.devices)
        self._watches = Watches(self.recipe, classes=self.splits.classes)
        self._predicted: Predicted | None = None

    @property
    def state(self) -> Learner:
        """The model with its optimizer."""
        return self.learner

    def begin(self) -> None:
        """Raises ConfigError when the model does not fit the data."""
        check_model(self.learner.model, self.splits)
        if self.measures_peak:
            self.peak_flops = measured_peak_flops(self.devices.device, self.recipe.run.precision)

    def batches(self, start: int) -> Generator[Crops]:
        """Yields crops as they come from the files, from batch number `start` on."""
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
            on_unreadable=self.complaints.of("train").add,
        )

    def update(self, batch: Crops, step: int, journal: Journal) -> Update:
        """Makes update number `step`, from 0."""
        loss = self._gradients(batch, step, journal)
        norm, rate = apply_gradients(self.learner, self.recipe, step)
        return Update(self.devices.mean(loss), norm, rate)

    def peak_share(self, images_per_second: float) -> float | None:
        """The arithmetic done at that rate, as a share of the devices' highest."""
        if not self.peak_flops:
            return None
        reached = images_per_second * training_flops(self.learner.model.config)
        # Other work may have slowed down the products that were measured: a rate that was reached is possible.
        self.peak_flops = max(self.peak_flops, reached / self.devices.count)
        return reached / (self.devices.count * self.peak_flops)

    def evaluate(self, step: int, journal: Journal) -> Evaluated:
        """Scores the model, or its running mean if it has one, on the held-out images; each process takes its share."""
        began = time.perf_counter()
        with finishing(EVALUATION), self.learner.averaged():
            predicted = self._predict(self.splits.val, "held-out", journal)
        if count_not_finite(predicted.logits):
            raise InputError(answers_diverged(step, self.recipe))
        self._predicted = predicted
        scores = score_logits(predicted.logits, predicted.labels, self.recipe.loss.kind)
        return Evaluated(step, scores, time.perf_counter() - began)

    def watch(self, event: Event) -> list[str]:
        """Warnings about an event, most often none."""
        return self._watches.on_event(event) if isinstance(event, StepDone | Evaluated) else []

    def finish(self, journal: Journal) -> TrainResult:
        """Scores the test images, where there are some."""
        assert self._predicted is not None
        tested = self._test(journal)
        evaluations = tuple(each for each in journal.evaluations if isinstance(each, Evaluated))
        return TrainResult(tuple(journal.history), evaluations, tuple(journal.warnings), self._predicted, tested)

    def _gradients(self, crops: Crops, step: int, journal: Journal) -> torch.Tensor:
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
            journal.report(Warned(step + 1, told))
            self.micro = smaller

    def _prepare(self, crops: Crops) -> Batch:
        device = self.devices.device
        on_device = Crops(crops.images.to(device), crops.labels.to(device), crops.seeds)
        recipe, classes = self.recipe, len(self.splits.classes)
        return augment_on_device(
            on_device, recipe.augment, self.images, classes=classes, smoothing=recipe.loss.smoothing
        )

    def _predict(self, samples: Samples, which: str, journal: Journal) -> Predicted:
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
            on_unreadable=self.complaints.of(which).add,
        )
        self.complaints.share(journal)
        parts = devices.gather(part)
        return part if len(parts) == 1 else Predicted(*map(np.concatenate, zip(*parts, strict=True)))

    def _test(self, journal: Journal) -> Scores | None:
        if self.splits.test is None:
            return None
        try:
            answers = self._predict(self.splits.test, "test", journal)
        except DatasetError as error:  # a bad file must not cost the run
            if self.devices.count > 1:  # the others wait for this process
                raise
            journal.warn(f"the test images were not scored: {error}")
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
