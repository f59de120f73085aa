"""A model whose tokens can merge, its images, and speeds that are known beforehand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import vitsmith as vs
from tests.tiny import VIT, pictures, tiny_model
from vitsmith.compress.images import TaskImages
from vitsmith.compress.merge_tokens.result import REQUIRED
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.models.configure import change
from vitsmith.weights.bundle.bundle import Bundle

LARGER = change(VIT, image_size=(40, 48), depth=3)
"""30 patches: enough for three rounds."""
LENIENT = replace(REQUIRED, agreement=0)


def bundle_of(config: Any = LARGER, **fields: Any) -> Bundle:
    return Bundle.of(tiny_model(config), labels=vs.Labels(names=tuple("abcde")), **fields)


def wavering() -> Bundle:
    """One whose answers differ between pictures and hang by a thread."""
    bundle = bundle_of()
    head = bundle.model.head
    logits = torch.from_numpy(vs.Predictor(bundle, "torch").logits(photos().evaluation.sources))
    with torch.no_grad():
        head.bias.sub_(logits.mean(dim=0))
    return bundle


def photos(labels: np.ndarray | None = None) -> TaskImages:
    many = pictures(24)
    return TaskImages.of(many[:8], many[8:], "16 pictures", labels=labels)


def speeds(*gains: float) -> Any:
    """A measurement in which the second engine is so many times faster: alone, and in batches."""
    single, batches = gains if len(gains) == 2 else gains * 2
    speedup = Speedup(Speed(10, 100, 16), Speed(10 / single, 100 * batches, 16), single, batches)
    return lambda before, after, images: speedup
