"""One update of the original recipe, whole: loss, accumulation, clipping, learning rate, momentum."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitsmith.data.batches import Batch
from vitsmith.train.optimizer import MomentumSGD, clip_by_global_norm
from vitsmith.train.recipe import TrainRecipe
from vitsmith.train.schedule import learning_rate


def make_optimizer(model: nn.Module, recipe: TrainRecipe) -> MomentumSGD:
    """The recipe's optimizer over all parameters of the model. There is no weight decay, as in the original."""
    dtype = {"bfloat16": torch.bfloat16, "float32": torch.float32}[recipe.momentum_dtype]
    return MomentumSGD(model.parameters(), momentum=recipe.momentum, velocity_dtype=dtype)


def update(
    model: nn.Module, optimizer: MomentumSGD, batch: Batch, recipe: TrainRecipe, step: int
) -> tuple[Tensor, Tensor, float]:
    """Update number `step`, from 0. Returns the mean loss, the gradients' norm before clipping, and the rate."""
    optimizer.zero_grad()
    loss = torch.zeros((), device=batch.images.device)
    slices = zip(batch.images.chunk(recipe.accumulate), batch.labels.chunk(recipe.accumulate), strict=True)
    for images, labels in slices:  # equal ones, so that the mean of their means is the batch's
        with torch.autocast(images.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
            logits = model(images)
        part = F.cross_entropy(logits.float(), labels) / recipe.accumulate
        part.backward()  # type: ignore[no-untyped-call]
        loss += part.detach()
    norm = clip_by_global_norm(model.parameters(), recipe.clip)
    rate = learning_rate(
        step, base=recipe.learning_rate, steps=recipe.steps, warmup_steps=recipe.warmup_steps, decay=recipe.decay
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return loss, norm, rate
