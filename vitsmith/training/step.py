"""One whole update: loss, accumulation, clipping, learning rate, optimizer, running mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vitsmith.data.batches.loader import Batch
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices, synchronising
from vitsmith.training.learner import Learner
from vitsmith.training.recipes.recipe import AnyRecipe, TrainRecipe
from vitsmith.training.schedule import learning_rate
from vitsmith.training.update.optimizer import clip_by_global_norm
from vitsmith.training.update.precision import computing_in
from vitsmith.training.update.sharpness import sharpened_gradients


def compute_gradients(
    learner: Learner, slices: Sequence[Batch], recipe: TrainRecipe, step: int, devices: Devices
) -> Tensor:
    """Fills the gradients for update number `step`, from 0, and returns the mean loss over this process's images.

    `slices` are equal parts of its share of the batch, so that the mean of their means is the batch's. Dropout and
    stochastic depth draw from torch's generators, which are seeded for each update: a run that is resumed, and the
    second gradient of SAM, draw the same.
    """

    def compute() -> Tensor:
        torch.manual_seed(_seed(recipe.run.seed, step, devices.index))
        learner.optimizer.zero_grad()
        loss = torch.zeros((), device=devices.device)
        with computing_in(learner.model, learner.precision, call=learner.forward) as forward:
            for number, batch in enumerate(slices, start=1):
                with synchronising(learner.forward, last=number == len(slices)):
                    part = learner.loss(forward(batch.images), batch) / len(slices)
                    part.backward()  # type: ignore[no-untyped-call]
                loss += part.detach()
        return loss

    if recipe.optimizer.sharpness == "none":
        return compute()
    share = rate(recipe, step) / recipe.optimizer.lr
    return sharpened_gradients(learner.model, compute, recipe.optimizer, share)


def apply_gradients(learner: TrainingState, recipe: AnyRecipe, step: int) -> tuple[Tensor, float]:
    """Moves the weights along their gradients. Returns the gradients' norm before clipping, and the learning rate."""
    norm = clip_by_global_norm(learner.parameters, recipe.optimizer.clip)
    lr = rate(recipe, step)
    for group in learner.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    learner.optimizer.step()
    if learner.ema is not None:
        learner.ema.update()
    return norm, lr


def rate(recipe: AnyRecipe, step: int) -> float:
    """The recipe's learning rate for update number `step`, from 0."""
    schedule = recipe.schedule
    return learning_rate(
        step, base=recipe.optimizer.lr, steps=schedule.steps, warmup_steps=schedule.warmup, decay=schedule.decay
    )


def _seed(seed: int, step: int, process: int) -> int:
    return int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint64)[0] >> 1)
