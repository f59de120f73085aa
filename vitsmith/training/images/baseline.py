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
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from vitsmith.data.batches.loader import Held, evaluation_batches
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import ConfigError, InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.models.build import ImageModel
from vitsmith.specs import ImageSpec

NEIGHBOURS = 20  # as DINO, arXiv 2104.14294 section 4.1
TEMPERATURE = 0.07  # of the neighbours' votes: eval_knn.py of DINO
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""L2 regularisations that are tried, strongest first: each fit begins where the last one ended."""

_BATCH = 32
_HELD_OUT_END, _TRAINING_END = 0.25, 0.75  # shares of the time at which reading ends; the rest is for fitting
_FOR_CHOOSING = 5  # one in so many training images of a class is kept aside to choose the regularisation
_MOST_ITERATIONS = 100
_LEAST_ITERATIONS = 5
_QUERIES = 1024  # compared with all training features at once

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
    seconds: float = 20.0,
    skip_unreadable: float = 0.0,
    on_image: Callable[[], None] = lambda: None,
) -> Baseline:
    """Scores a linear probe and k-NN on the pooled features of `model`, on its device, in about `seconds`.

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
    classes, count = len(splits.classes), len(val)
    near = int((vote(train, labels, val, classes) == val_labels).sum())
    right = int((probe(train, labels, val, classes, began + seconds) == val_labels).sum())
    return Baseline(
        linear=right / count,
        knn=near / count,
        linear_interval=wilson_interval(right, count),
        knn_interval=wilson_interval(near, count),
        train_images=len(train),
        val_images=count,
        seconds=time.perf_counter() - began,
    )


def vote(train: Tensor, labels: Tensor, queries: Tensor, classes: int) -> Tensor:
    """(M,) classes of `queries` (M, D) by their nearest neighbours among `train` (N, D) with `labels` (N,).

    Cosine similarity; each of the nearest 20 votes with exp(similarity / 0.07). Source: arXiv 2104.14294, appendix F.
    """
    train = F.normalize(train, dim=1)
    answers = []
    for at in range(0, len(queries), _QUERIES):
        part = F.normalize(queries[at : at + _QUERIES], dim=1)
        similarity, nearest = (part @ train.T).topk(min(NEIGHBOURS, len(train)), dim=1)
        weights = ((similarity - 1) / TEMPERATURE).exp()  # shifted: all weights are below 1, and their order is kept
        votes = torch.zeros(len(part), classes, device=part.device).scatter_add_(1, labels[nearest], weights)
        answers.append(votes.argmax(dim=1))
    return torch.cat(answers)


def probe(train: Tensor, labels: Tensor, queries: Tensor, classes: int, deadline: float = float("inf")) -> Tensor:
    """(M,) classes of `queries` (M, D) by a linear classifier on standardised features.

    The regularisation is chosen on a fifth of the training features, never on `queries`; then all of them are fitted.
    After `deadline`, a time of `perf_counter`, fits are cut short.
    """
    mean, deviation = train.mean(dim=0), train.std(dim=0, correction=0)
    deviation = torch.where(deviation > 1e-6 * deviation.max(), deviation, 1.0)  # a constant feature says nothing
    train, queries = (train - mean) / deviation, (queries - mean) / deviation
    strength = _choose_strength(train, labels, classes, deadline)
    return fit_linear(train, labels, classes, strength, deadline=deadline)(queries).argmax(dim=1)


def fit_linear(
    features: Tensor,
    labels: Tensor,
    classes: int,
    strength: float,
    *,
    start: nn.Linear | None = None,
    deadline: float = float("inf"),
) -> nn.Linear:
    """Multinomial logistic regression: least mean cross-entropy + strength / 2 * |weights|^2, the bias left free.

    `strength` is 1 / (C * N) of scikit-learn. Begins at `start`, which is changed, or at zero; after `deadline` it
    goes on for 5 iterations at most.
    """
    linear = start if start is not None else _zeros(features, classes)
    optimizer = torch.optim.LBFGS(
        linear.parameters(), max_iter=_LEAST_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(linear(features), labels) + strength / 2 * linear.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    before = float("inf")
    with torch.enable_grad():
        for _ in range(_MOST_ITERATIONS // _LEAST_ITERATIONS):
            after = float(optimizer.step(loss).detach())  # type: ignore[no-untyped-call]
            if time.perf_counter() > deadline or before - after < 1e-6 * abs(after):
                break
            before = after
    return linear.requires_grad_(False)


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


def _choose_strength(features: Tensor, labels: Tensor, classes: int, deadline: float) -> float:
    """The strength of STRENGTHS with the least cross-entropy on the training images that are kept aside for it."""
    aside = _aside(labels)
    if not aside.any():
        return STRENGTHS[len(STRENGTHS) // 2]
    linear = _zeros(features, classes)
    losses = {}
    for strength in STRENGTHS:
        linear.requires_grad_(True)
        fit_linear(features[~aside], labels[~aside], classes, strength, start=linear, deadline=deadline)
        losses[strength] = float(F.cross_entropy(linear(features[aside]), labels[aside]))
    return min(losses, key=lambda strength: losses[strength])


def _aside(labels: Tensor) -> Tensor:
    """(N,) bool: every fifth image of each class."""
    seen: dict[int, int] = {}
    chosen = []
    for label in labels.tolist():
        seen[label] = seen.get(label, 0) + 1
        chosen.append(seen[label] % _FOR_CHOOSING == 0)
    return torch.tensor(chosen, device=labels.device)


def _zeros(features: Tensor, classes: int) -> nn.Linear:
    with torch.device("meta"):  # so that nothing is drawn from torch's random state
        linear = nn.Linear(features.shape[1], classes)
    linear.to_empty(device=features.device)
    for parameter in linear.parameters():
        nn.init.zeros_(parameter)
    return linear
