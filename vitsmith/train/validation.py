"""What a model in training says about the images it does not learn from."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vitsmith.data.batches import evaluation_batches
from vitsmith.data.samples import Samples
from vitsmith.specs import ImageSpec


@torch.no_grad()
def predict_logits(model: nn.Module, samples: Samples, images: ImageSpec, *, batch: int = 64) -> NDArray[np.float32]:
    """float32 logits of shape (images, classes), in the order of `samples`; the model is left in its mode.

    Raises DatasetError for an image that cannot be read.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        with closing(evaluation_batches(samples, images, batch=batch)) as batches:
            logits = [model(part.images.to(device)).float().cpu().numpy() for part in batches]
    finally:
        model.train(training)
    return np.concatenate(logits)
