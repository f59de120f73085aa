"""One whole update of a text tower: both sides' embeddings, loss, gradients of all processes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vitsmith.layers.unit import normalize
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices
from vitsmith.training.lit.contrastive import backward_in_slices, sigmoid_contrastive, softmax_contrastive
from vitsmith.training.lit.towers import TextSide
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.update.precision import computing_in


def compute_gradients(
    state: TrainingState,
    images: Tensor,
    tokens: Tensor,
    labels: Tensor,
    recipe: LitRecipe,
    micro: int,
    devices: Devices,
) -> Tensor:
    """Fills the gradients of one update with those of the whole batch, in every process; returns its loss, shape ().

    Args:
        state: of a `TextSide`.
        images: (b, E) unit vectors of this process's share of the batch.
        tokens: (b, L) of their captions.
        labels: (b,) equal for captions that read alike.
        micro: captions computed at once.
    """
    side = state.model
    assert isinstance(side, TextSide)
    state.optimizer.zero_grad()
    spec = recipe.loss
    known = labels if spec.skip_equal else None

    def loss_of(texts: Tensor) -> Tensor:
        if side.logit_bias is not None:
            return sigmoid_contrastive(
                images, texts, side.log_temperature, side.logit_bias,
                labels=known, devices=devices, block=recipe.batch.block,
            )  # fmt: skip
        return softmax_contrastive(
            images, texts, side.log_temperature, labels=known, devices=devices, block=recipe.batch.block
        )

    with computing_in(side.text, recipe.run.precision) as forward:
        loss = backward_in_slices(lambda rows: normalize(forward(rows)), torch.split(tokens, micro), loss_of)
    average_gradients(state.parameters, devices)
    return loss


def average_gradients(parameters: Sequence[nn.Parameter], devices: Devices) -> None:
    """Replaces each gradient by its mean over all processes, with one message for all of them."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if devices.count == 1 or not gradients:
        return
    mean = devices.mean(torch.cat([gradient.flatten() for gradient in gradients]))
    for gradient, part in zip(gradients, torch.split(mean, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


@torch.no_grad()
def cap_temperature(side: TextSide, most: float) -> None:
    """Keeps the temperature from rising above `most` (CLIP, arXiv 2103.00020 section 2.5)."""
    side.log_temperature.clamp_(max=math.log(most))
