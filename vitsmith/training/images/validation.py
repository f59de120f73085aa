"""Predicts the images that a model in training does not learn from."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitsmith.data.batches.loader import Held, evaluation_batches, ignore
from vitsmith.data.sets.samples import Samples
from vitsmith.specs import ImageSpec


class Predicted(NamedTuple):
    """Answers for the images that could be read, in the order of the samples. Letters: N images, K classes."""

    logits: NDArray[np.float32]
    """(N, K)"""
    labels: NDArray[np.int64]
    """(N,)"""
    indices: NDArray[np.int64]
    """(N,) their positions among the samples."""


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    samples: Samples,
    images: ImageSpec,
    *,
    batch: int = 64,
    part: int = 0,
    parts: int = 1,
    skip_unreadable: float = 0.0,
    threads: int | None = None,
    on_unreadable: Callable[[str], None] = ignore,
) -> Predicted:
    """Logits of the images of slice number `part` of `parts`; the model is left in its mode.

    Each process calls the model equally often, with images of zeros when it has none left: a model in shards (FSDP)
    needs all processes in every call. Unreadable images and errors are those of `evaluation_batches`.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    calls = math.ceil(math.ceil(len(samples) / parts) / batch)
    source = evaluation_batches(
        samples,
        images,
        batch=batch,
        part=part,
        parts=parts,
        skip_unreadable=skip_unreadable,
        threads=threads,
        on_unreadable=on_unreadable,
    )
    found: list[Predicted] = []
    try:
        with closing(source) as batches:
            for _ in range(calls):
                held = next(batches, None)
                if held is None or not len(held.labels):
                    model(torch.zeros(1, 3, *images.size, device=device))
                else:
                    found.append(_predicted(model(held.images.to(device)), held))
    finally:
        model.train(training)
    if not found:
        return Predicted(np.empty((0, len(samples.classes)), np.float32), np.empty(0, np.int64), np.empty(0, np.int64))
    return Predicted(*(np.concatenate(arrays) for arrays in zip(*found, strict=True)))


def _predicted(logits: Tensor, held: Held) -> Predicted:
    return Predicted(logits.float().cpu().numpy(), held.labels.numpy(), held.indices.numpy())
