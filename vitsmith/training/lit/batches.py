"""The pairs of each update: which image goes with which caption, and the image's embedding."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vitsmith.arrays import Array
from vitsmith.data.batches.device import augment_on_device
from vitsmith.data.batches.loader import Crops, training_batches, training_draws
from vitsmith.data.sets.samples import Samples
from vitsmith.layers.unit import normalize
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ImageSpec
from vitsmith.training.devices import Devices
from vitsmith.training.recipes.lit import LitRecipe


class Pairs(NamedTuple):
    """One process's share of a batch, on its device."""

    images: Tensor
    """(b, E) float32 unit vectors."""
    labels: Tensor
    """(b,) int64: the index of each image's caption."""


class PairSource(Protocol):
    """A source of batches."""

    def batches(self, start: int) -> Generator[Pairs]:
        """Yields endless batches from number `start` on; close it after use."""


class KeptPairs:
    """Pairs of images that were embedded before; those that could not be read are left out."""

    def __init__(self, samples: Samples, embeddings: Array, recipe: LitRecipe, devices: Devices) -> None:
        self._rows = np.flatnonzero(np.isfinite(embeddings[:, 0]))
        self._samples = samples.select(self._rows)
        self._embeddings, self._recipe, self._devices = embeddings, recipe, devices

    def batches(self, start: int) -> Generator[Pairs]:
        """Draws pairs as `training_batches` does."""
        recipe, devices = self._recipe, self._devices
        for draws in training_draws(
            self._samples, recipe.batch.size, recipe.run.seed, start, devices.index, devices.count
        ):
            chosen = np.array([draw.sample for draw in draws])
            rows = np.asarray(self._embeddings[self._rows[chosen]], np.float32)
            labels = torch.from_numpy(self._samples.labels[chosen])
            yield Pairs(torch.from_numpy(rows).to(devices.device), labels.to(devices.device))


class VariedPairs:
    """Pairs whose images are augmented anew each time, and embedded by the locked tower."""

    def __init__(
        self,
        samples: Samples,
        tower: VisionTransformer,
        images: ImageSpec,
        recipe: LitRecipe,
        devices: Devices,
        complaints: set[str],
    ) -> None:
        self._samples, self._tower, self._images = samples, tower, images
        self._recipe, self._devices, self._complaints = recipe, devices, complaints

    def batches(self, start: int) -> Generator[Pairs]:
        """Draws pairs as `training_batches` does."""
        recipe, devices = self._recipe, self._devices
        assert recipe.augment is not None
        source = training_batches(
            self._samples,
            self._images,
            recipe.augment,
            batch=recipe.batch.size,
            seed=recipe.run.seed,
            start=start,
            part=devices.index,
            parts=devices.count,
            skip_unreadable=recipe.data.skip_unreadable,
            threads=recipe.run.workers,
            on_unreadable=self._complaints.add,
        )
        with closing(source):
            for crops in source:
                yield Pairs(self._embed(crops), crops.labels.to(devices.device))

    @torch.no_grad()
    def _embed(self, crops: Crops) -> Tensor:
        spec, size = self._recipe.augment, self._recipe.image.batch
        assert spec is not None
        vectors = []
        for at in range(0, len(crops.labels), size):
            part = Crops(*(each[at : at + size] for each in crops))
            part = part._replace(images=part.images.to(self._devices.device))
            batch = augment_on_device(part, spec, self._images, classes=len(self._samples.classes))
            vectors.append(normalize(self._tower(batch.images)))
        return torch.cat(vectors)
