"""A small ViT that reads digits, and the images that calibrate and evaluate it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vitsmith import Bundle, Labels
from vitsmith.compress.images import Amounts, TaskImages, labelled_images
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.digits import open_digits
from vitsmith.models.build import build
from vitsmith.models.config import ViTConfig
from vitsmith.weights.bundle.folder import write_bundle


@pytest.fixture(scope="package", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITSMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="package")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A small ViT that reads digits, trained here in seconds, on disk."""
    config = ViTConfig(
        width=32,
        depth=2,
        heads=2,
        mlp_width=64,
        patch=(8, 8),
        image_size=(32, 32),
        classes=10,
        pooling="gap",
        class_token=False,
    )
    torch.manual_seed(0)
    model = build(config)
    with torch.no_grad():
        model.positions.embedding.normal_()
    bundle = Bundle.of(model, labels=Labels(names=tuple(map(str, range(10)))))
    train = open_digits().train
    images = torch.from_numpy(np.stack([preprocess(image, bundle.preprocessing) for image in train.sources]))
    labels = torch.from_numpy(train.labels)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(300):
        chosen = torch.randint(len(images), (64,))
        optimizer.zero_grad()
        F.cross_entropy(model.train()(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    model.eval()
    return write_bundle(bundle.with_golden(list(train.sources[:2])), tmp_path_factory.mktemp("digits") / "model")


@pytest.fixture(scope="package")
def photos(digits: Bundle) -> TaskImages:
    return labelled_images(digits, "digits", amounts=Amounts(calibration=24))
