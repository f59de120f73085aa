"""The training loop: batches in, updates, evaluations, and a report of each to whoever listens. It prints nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import torch

from vitsmith.data.batches import Batch, training_batches
from vitsmith.data.samples import Splits
from vitsmith.errors import ConfigError, InputError
from vitsmith.evaluate.scores import Scores, score_logits
from vitsmith.models.build import ImageModel
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.train.recipe import TrainRecipe
from vitsmith.train.step import make_optimizer, update
from vitsmith.train.validation import predict_logits


@dataclass(frozen=True)
class StepDone:
    """One update."""

    step: int
    """How many updates are done: 1 after the first."""
    loss: float
    """Mean cross-entropy of the batch, before the update."""
    learning_rate: float
    gradient_norm: float
    """Before clipping."""
    images_per_second: float
    """Since the last update or evaluation."""


@dataclass(frozen=True)
class Evaluated:
    """The scores on the held-out images after `step` updates."""

    step: int
    scores: Scores
    seconds: float


Event = StepDone | Evaluated
Listener = Callable[[Event], None]


@dataclass(frozen=True)
class TrainResult:
    """What happened in a run. The model holds the weights of the last step."""

    history: tuple[StepDone, ...]
    evaluations: tuple[Evaluated, ...]

    @property
    def final(self) -> Evaluated:
        return self.evaluations[-1]

    @property
    def best(self) -> Evaluated:
        """The first of the highest top-1."""
        return max(self.evaluations, key=lambda evaluated: evaluated.scores.top1)


def ignore(event: Event) -> None:
    """A listener that does not listen."""


def train(
    model: ImageModel, splits: Splits, recipe: TrainRecipe, images: ImageSpec, *, on_event: Listener = ignore
) -> TrainResult:
    """Trains `model` in place, on the device it is on, and leaves it in eval mode.

    `on_event` is called after every update and every evaluation, from this thread. The same seed on the same machine
    gives the same losses; torch's global random state is left as it was. Interrupting it ends its threads.

    Raises ConfigError when model and data do not belong together, DatasetError for an image that cannot be read, and
    InputError when the loss is no longer a number.
    """
    _check_model(model, splits)
    device = next(model.parameters()).device
    optimizer = make_optimizer(model, recipe)
    history: list[StepDone] = []
    evaluations: list[Evaluated] = []
    source = training_batches(splits.train, images, recipe.augmentation, batch=recipe.batch, seed=recipe.seed)
    model.train()
    with _seeded(recipe.seed, device), closing(source) as batches:
        began = time.perf_counter()
        for step, batch in zip(range(recipe.steps), batches, strict=False):
            on_device = Batch(batch.images.to(device), batch.labels.to(device))
            loss, norm, rate = (float(value) for value in update(model, optimizer, on_device, recipe, step))
            _check_finite(step, loss, norm, recipe)
            now = time.perf_counter()
            done = StepDone(step + 1, loss, rate, norm, recipe.batch / (now - began))
            began = now
            history.append(done)
            on_event(done)
            if done.step == recipe.steps or (recipe.eval_every and done.step % recipe.eval_every == 0):
                evaluations.append(_evaluate(model, splits, recipe, images, done.step))
                on_event(evaluations[-1])
                began = time.perf_counter()
    model.eval()
    return TrainResult(tuple(history), tuple(evaluations))


def _evaluate(model: ImageModel, splits: Splits, recipe: TrainRecipe, images: ImageSpec, step: int) -> Evaluated:
    began = time.perf_counter()
    logits = predict_logits(model, splits.val, images, batch=recipe.batch // recipe.accumulate)
    scores = score_logits(logits, splits.val.labels)
    return Evaluated(step, scores, time.perf_counter() - began)


def _check_model(model: ImageModel, splits: Splits) -> None:
    classes = len(splits.classes)
    if model.config.classes != classes:
        raise ConfigError(f"the model has {model.config.classes} classes and the data {classes}: make it for {classes}")
    if isinstance(model, VisionTransformer) and model.config.pooling.endswith("unpooled"):
        raise ConfigError(f"pooling {model.config.pooling!r} gives logits for every token: train with 'token' or 'gap'")


def _check_finite(step: int, loss: float, norm: float, recipe: TrainRecipe) -> None:
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise InputError(
            f"training diverged at step {step + 1} (loss {loss:g}, gradient norm {norm:g}): lower learning_rate "
            f"(now {recipe.learning_rate:g}) or raise warmup_steps (now {recipe.warmup_steps})"
        )


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Dropout and stochastic depth draw from torch's global generators: seeded here, and given back as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
