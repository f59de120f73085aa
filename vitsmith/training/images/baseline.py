"""Scores frozen features before any fine-tuning, with a linear probe and nearest neighbours, in seconds.

N training images, M held-out ones, D features, K classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vitsmith.data.batches.loader import Held, evaluation_batches
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import ConfigError, InputError
from vitsmith.models.build import ImageModel
from vitsmith.probing.classifiers.labelled import LabelledFeatures, is_enough
from vitsmith.probing.classifiers.logistic import fit_logistic
from vitsmith.probing.classifiers.neighbours import fit_neighbours
from vitsmith.probing.classifiers.scores import score_probe
from vitsmith.specs import ImageSpec

NEIGHBOURS = 20  # as DINO, arXiv 2104.14294 section 4.1
SECONDS = 20.0
"""About how long it takes, as many images as there may be."""
_BATCH = 32
_HELD_OUT_END, _TRAINING_END = 0.25, 0.75  # shares of the time at which reading ends; the rest is for fitting
_FOLDS = 3  # of cross-validation for the linear probe: few, as time is short

Interval = tuple[float, float]


@dataclass(frozen=True)
class Baseline:
    """Held-out top-1 accuracies of two classifiers on frozen features, with 95% confidence intervals (Wilson)."""

    linear: float
    knn: float
    linear_interval: Interval
    knn_interval: Interval
    train_images: int
    """Training images used: as many as there was time for."""
    val_images: int
    """Held-out images that they were scored on."""
    seconds: float

    def compare(self, top1: float) -> str:
        """A sentence that compares `top1`, the held-out accuracy after fine-tuning, with the linear probe.

        It says what to change if fine-tuning gained nothing.
        """
        gain = 100 * (top1 - self.linear)
        low, high = self.linear_interval
        before = f"a linear probe on the features before training ({self.linear:.1%})"
        if low <= top1 <= high:
            if gain > 0:
                return f"Fine-tuning gained little: its accuracy is within the interval of {before}."
            less = f", {-gain:.1f} points less," if gain else ""
            return f"Fine-tuning gained nothing: its accuracy{less} is within the interval of {before}."
        if gain > 0:
            return f"Fine-tuning gained {gain:.1f} points over {before}."
        return (
            f"This is {-gain:.1f} points less than {before}: raise schedule.steps if the loss was still falling, lower "
            "optimizer.lr if it jumped, or train the head alone with the recipe linear-probe."
        )

    def __str__(self) -> str:
        return (
            f"before fine-tuning: linear probe {self.linear:.1%}, k-NN {self.knn:.1%} on {self.val_images:,} held-out "
            f"images, trained on {self.train_images:,}; {self.seconds:.0f} s"
        )


def measure_baseline(
    model: ImageModel,
    splits: Splits,
    images: ImageSpec,
    *,
    seconds: float = SECONDS,
    skip_unreadable: float = 0.0,
    on_image: Callable[[], None] = lambda: None,
) -> Baseline | None:
    """Scores a linear probe and k-NN on the pooled features of `model`, on its device, in about `seconds`.

    The probes are those of `vitsmith.probing`: logistic regression, whose regularisation is chosen on training images
    only, and the 20 nearest neighbours. None where there are too few training images to fit one.

    It reads as many images of both splits as there is time for, in proportion to the classes and the same ones every
    time. It changes neither the model nor torch's random state. Up to a share of `skip_unreadable` of the images may
    be unreadable. `on_image` is called after each image.

    Raises ConfigError for unpooled models, DatasetError for an image that cannot be read, and InputError for features
    that are not numbers.
    """
    if getattr(model.config, "pooling", "").endswith("unpooled"):
        raise ConfigError(
            "an unpooled model has features for every token: use pooling 'token' or 'gap', or set run.baseline to false"
        )
    began = time.perf_counter()

    def read(samples: Samples, *, until: float, each_first: bool) -> tuple[Tensor, Tensor]:
        chosen = samples.select(stratified_order(samples.labels, each_first=each_first).tolist())
        with closing(evaluation_batches(chosen, images, batch=_BATCH, skip_unreadable=skip_unreadable)) as batches:
            return _features(model, batches, began + until * seconds, on_image)

    with torch.no_grad(), evaluating(model):
        val, val_labels = read(splits.val, until=_HELD_OUT_END, each_first=False)
        train, labels = read(splits.train, until=_TRAINING_END, each_first=True)
    if not (torch.isfinite(train).all() and torch.isfinite(val).all()):
        raise InputError("the model's features are not finite numbers: check its weights, or set run.baseline to false")
    seen = LabelledFeatures(train, labels, len(splits.classes))
    held_out = LabelledFeatures(val, val_labels, len(splits.classes))
    if not is_enough(seen):
        return None
    near = score_probe(fit_neighbours(seen, counts=[NEIGHBOURS]), held_out)
    linear = score_probe(fit_logistic(seen, folds=_FOLDS, deadline=began + seconds), held_out)
    return Baseline(
        linear=linear.accuracy,
        knn=near.accuracy,
        linear_interval=linear.interval,
        knn_interval=near.interval,
        train_images=len(seen),
        val_images=len(held_out),
        seconds=time.perf_counter() - began,
    )


def stratified_order(labels: NDArray[np.int64], *, each_first: bool) -> NDArray[np.intp]:
    """An order of images whose every beginning holds the classes in proportion; always the same one.

    With `each_first` one image of every class comes before any second one. Without, no class is favoured.
    """
    random = np.random.default_rng(0)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        offset = 0.0 if each_first else random.random()
        place[members] = (np.arange(len(members)) + offset) / len(members)
    return np.lexsort((random.random(len(labels)), place))


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Puts the model in eval mode, and afterwards puts every part of it back in its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _features(
    model: ImageModel, batches: Iterable[Held], deadline: float, on_image: Callable[[], None]
) -> tuple[Tensor, Tensor]:
    """(N, D) float32 features and (N,) labels of the images read until `deadline`, of at least one batch."""
    device = next(model.parameters()).device
    features, labels = [], []
    for batch in batches:
        if not len(batch.labels):
            continue
        features.append(model.features(batch.images.to(device)).pooled.float())
        labels.append(batch.labels.to(device))
        for _ in range(len(batch.labels)):
            on_image()
        if time.perf_counter() > deadline:
            break
    return torch.cat(features), torch.cat(labels)
