"""Tiny models to prune, with batches and samples for them, and speeds that are known beforehand."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.tiny import CONFIGS, pictures, tiny_inputs, tiny_model
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.samples import Samples
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.models.build import ImageModel
from vitsmith.models.config import ModelConfig
from vitsmith.specs import Labels
from vitsmith.weights.bundle.bundle import Bundle

NAMES = ("ant", "bee", "cat", "dog", "eel")
CASES = ["vit-token", "vit-gap", "vit-timm", "vit-distilled", "vit-representation", "hybrid-stages", "mixer"]
FASTER = Speedup(Speed(2.0, 100.0, 16), Speed(1.0, 250.0, 16), 2.0, 2.5)
SLOWER = Speedup(Speed(2.0, 100.0, 16), Speed(1.9, 101.0, 16), 1.05, 1.01)


def model_of(name: str) -> ImageModel:
    model = tiny_model(CONFIGS[name])
    assert isinstance(model, ImageModel)
    return model


def batches_of(config: ModelConfig, count: int = 6, dtype: torch.dtype = torch.float32) -> list[Any]:
    """Two batches of images with labels."""
    images = tiny_inputs(config, count)[0].to(dtype)
    labels = torch.arange(count) % 5
    return [(images[:4], labels[:4]), (images[4:], labels[4:])]


def samples_of(config: ModelConfig, count: int = 24) -> Samples:
    images = pictures(count)
    return Samples(NAMES, images, [str(index) for index in range(count)], np.arange(count, dtype=np.int64) % 5)


def bundle_of(name: str = "vit-token", **fields: Any) -> Bundle:
    return Bundle.of(tiny_model(CONFIGS[name]), labels=Labels(names=NAMES), **fields)


def preprocessed(image: np.ndarray, bundle: Bundle) -> np.ndarray:
    return preprocess(image, bundle.preprocessing)
