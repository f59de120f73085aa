"""Few-shot accuracy: how good is the nearest class mean of 1 to 16 labelled images of each class?

N training images, M held-out ones, D features, K classes, T random draws of training images.

The classifier is that of prototypical networks (arXiv 1703.05175) with the cosine of SimpleShot (arXiv 1911.04623):
features of length 1, their mean for each class, and the mean with the largest cosine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.probing.classifiers.labelled import LabelledFeatures, blocks, require_for_fitting, require_width, unit
from vitsmith.probing.classifiers.steps import OnStep, unwatched
from vitsmith.probing.shots import SHOTS

DRAWS = 50
_SUPPOSED = 3
"""Images that speak for the variance that is supposed: simulated, 3 are enough for 95% from one held-out image on."""
_AT_ONCE = 2**24  # similarities, or numbers of class means, in memory: 64 MiB


@dataclass(frozen=True)
class FewShot:
    """The accuracy on held-out images with `shots` labelled images of each class, mean over random draws of them."""

    shots: int
    accuracy: float
    interval: tuple[float, float]
    """95% confidence interval of `accuracy`, over draws and held-out images: see `crossed_interval`."""
    deviation: float
    """Standard deviation of the accuracy from draw to draw: what somebody who labels once may expect."""
    draws: int
    images: int
    """Held-out images, the same for each draw."""
    short_classes: tuple[int, ...]
    """Classes with fewer training images than shots: all their images are used in each draw."""
    absent_classes: tuple[int, ...]
    """Classes without training images: never answered."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON."""
        return {
            "shots": self.shots,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "deviation": self.deviation,
            "draws": self.draws,
            "images": self.images,
            "short_classes": list(self.short_classes),
            "absent_classes": list(self.absent_classes),
        }


def score_few_shot(
    train: LabelledFeatures,
    held_out: LabelledFeatures,
    *,
    shots: Sequence[int] = SHOTS,
    draws: int = DRAWS,
    seed: int = 0,
    on_step: OnStep = unwatched,
) -> tuple[FewShot, ...]:
    """Scores class means of each number of `shots`, in order, over `draws` random choices of training images.

    A draw takes its images without replacement; with more shots it takes further ones. Numbers of shots beyond the
    images of the largest class are left out, as they would only repeat it. Images in one group may be drawn together.
    Neither the inputs nor torch's random state are changed; always the same for the same `seed`. `on_step` is called
    with the number of draws that were scored, of all numbers of shots.

    Raises InputError for fewer than 3 training images, one class, another width, and shots or draws below 1.
    """
    require_for_fitting(train)
    require_width(held_out.features, train.width)
    if not shots or min(shots) < 1 or draws < 2:
        raise InputError(f"`shots` are {list(shots)} and `draws` {draws}: give shots from 1 and at least 2 draws")
    counts = train.counts()
    usable = [shot for shot in sorted(set(shots)) if shot <= int(counts.max())] or [int(counts.max())]
    right = {shot: np.empty((draws, len(held_out)), bool) for shot in usable}
    features, queries = unit(train.features), unit(held_out.features)
    at_once = max(1, _AT_ONCE // (train.classes * max(len(held_out), train.width)))
    generator = np.random.default_rng(seed)
    labels, absent = train.labels.cpu().numpy(), counts.to(queries.device) == 0
    for rows in blocks(draws, at_once):
        orders = [generator.permutation(len(labels)) for _ in range(*rows.indices(draws))]
        for shot in usable:
            means = torch.stack([_class_means(features, labels, order, shot, train.classes) for order in orders])
            for part in blocks(len(queries), max(1, _AT_ONCE // (train.classes * len(orders)))):
                similarity = (queries[part] @ means.flatten(0, 1).T).view(-1, len(orders), train.classes)
                similarity.masked_fill_(absent, -torch.inf)
                answers = similarity.argmax(dim=2)
                right[shot][rows, part] = (answers == held_out.labels[part, None]).T.cpu().numpy()
            on_step(len(orders), f"{shot} images a class")
    return tuple(_score(shot, right[shot], counts.tolist(), held_out) for shot in usable)


def _class_means(features: Tensor, labels: np.ndarray, order: np.ndarray, shots: int, classes: int) -> Tensor:
    """(K, D) means, of length 1, of the first `shots` images of each class in `order` (N,); zeros without images."""
    ordered = labels[order]
    by_class = np.argsort(ordered, kind="stable")
    place = np.arange(len(order)) - np.searchsorted(ordered[by_class], ordered[by_class])  # among its class
    drawn = order[by_class[place < shots]]
    index = torch.from_numpy(labels[drawn]).to(features.device)
    sums = features.new_zeros(classes, features.shape[1]).index_add_(0, index, features[torch.from_numpy(drawn)])
    return unit(sums)


def _score(shots: int, right: np.ndarray, counts: list[int], held_out: LabelledFeatures) -> FewShot:
    by_draw = right.mean(axis=1)
    return FewShot(
        shots=shots,
        accuracy=float(right.mean()),
        interval=crossed_interval(right, None if held_out.groups is None else held_out.groups.cpu().numpy()),
        deviation=float(by_draw.std(ddof=1)),
        draws=len(right),
        images=right.shape[1],
        short_classes=tuple(label for label, count in enumerate(counts) if 0 < count < shots),
        absent_classes=tuple(label for label, count in enumerate(counts) if count == 0),
    )


def crossed_interval(right: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """95% confidence interval of the mean of answers (T, M) that are correct or not: T random draws, M images.

    Draws and images are both random and crossed: every draw answers every image. The variance of the mean is then
    (A - E) / (T M) + B / (T M), with A, B and E the mean squares of draws, of images and of the rest (S. R. Searle,
    G. Casella, C. E. McCulloch, Variance Components, 1992, chapter 4). An interval over draws alone would leave out
    that other held-out images give another accuracy. The images of one group, as `groups` (M,) numbers them, count as
    one that is there several times. The interval is Wilson's, for as many independent answers as have the same
    variance; where all answers are alike, for M. It is about the training images at hand: draws repeat them.

    A few images tell little of how much images differ. So the variance is mixed with that of answers which never
    differ between draws, as if 3 more images had told that one.
    """
    values, mean = right.astype(np.float64), float(right.mean())
    independent = float(right.shape[1])
    if groups is not None:
        _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
        independent = float(sizes.sum() ** 2 / np.square(sizes).sum())
        order = np.argsort(member, kind="stable")
        values = np.add.reduceat(values[:, order], np.cumsum(sizes) - sizes, axis=1) / sizes
    draws, images = values.shape
    by_draw, by_image, centre = values.mean(axis=1), values.mean(axis=0), values.mean()
    of_draws = images * np.square(by_draw - centre).sum() / max(draws - 1, 1)
    of_images = draws * np.square(by_image - centre).sum() / max(images - 1, 1)
    rest = values - by_draw[:, None] - by_image + centre
    of_rest = np.square(rest).sum() / max((draws - 1) * (images - 1), 1)
    over_draws, over_images = of_draws / (draws * images), of_images / (draws * independent)
    variance = max(over_draws + over_images - of_rest / (draws * images), over_draws, over_images)
    worth = mean * (1 - mean) / variance if variance > 0 else independent
    usual = min(worth, independent)
    worth = (_SUPPOSED + images - 1) / (_SUPPOSED / usual + (images - 1) / worth)
    return wilson_interval(mean * worth, worth)
