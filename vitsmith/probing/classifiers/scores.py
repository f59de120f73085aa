"""How often a method is right on held-out images: one row of a table of methods and models. M images, K classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.errors import InputError
from vitsmith.evaluation.accuracy import wilson_interval
from vitsmith.probing.classifiers.choice import FittedProbe
from vitsmith.probing.classifiers.labelled import LabelledFeatures, blocks
from vitsmith.probing.classifiers.steps import OnStep, unwatched

_AT_ONCE = 1024  # images that are answered before it is told: k-NN compares each with all training images


@dataclass(frozen=True, eq=False)
class MethodScore:
    """The answers of one method on held-out images."""

    method: str
    setting: str
    """How it was set, such as 'k 20'; '' where there is nothing to set."""
    predicted: NDArray[np.int64]
    """(M,) classes."""
    labels: NDArray[np.int64]
    """(M,) true classes."""
    classes: int
    independent: float
    """The number of independent images that all M are worth: see `LabelledFeatures.independent`."""
    remarks: tuple[str, ...] = ()

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(M,) whether each answer is correct."""
        return self.predicted == self.labels

    @property
    def images(self) -> int:
        """M."""
        return len(self.labels)

    @property
    def accuracy(self) -> float:
        """Share of correct answers, 0 to 1: of all M images, copies included."""
        return float(self.right.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """95% confidence interval of `accuracy` (Wilson), over independent held-out images."""
        return wilson_interval(self.accuracy * self.independent, self.independent)

    @cached_property
    def per_class(self) -> tuple[float | None, ...]:
        """K shares of correct answers; None for a class without held-out images."""
        images = np.bincount(self.labels, minlength=self.classes)
        hits = np.bincount(self.labels[self.right], minlength=self.classes)
        return tuple(int(hit) / int(count) if count else None for hit, count in zip(hits, images, strict=True))

    @property
    def mean_per_class(self) -> float:
        """The mean of `per_class`: every class that has held-out images counts the same."""
        return float(np.mean([share for share in self.per_class if share is not None]))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON; without the single answers."""
        return {
            "method": self.method,
            "setting": self.setting,
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "mean_per_class": self.mean_per_class,
            "per_class": list(self.per_class),
            "images": self.images,
            "remarks": list(self.remarks),
        }


def score_probe(probe: FittedProbe, held_out: LabelledFeatures, on_step: OnStep = unwatched) -> MethodScore:
    """Scores a fitted probe. `on_step` is called with the number of images that it answered.

    Raises InputError for features of another width.
    """
    answers = []
    for rows in blocks(len(held_out), _AT_ONCE):
        answers.append(probe.classify(held_out.features[rows]))
        on_step(len(answers[-1]))
    return score_answers(
        probe.method,
        torch.cat(answers),
        held_out,
        setting=str(probe.choice),
        remarks=probe.choice.remarks,
    )


def score_answers(
    method: str, predicted: Tensor, held_out: LabelledFeatures, *, setting: str = "", remarks: tuple[str, ...] = ()
) -> MethodScore:
    """Scores (M,) classes that any method gave, such as zero-shot. Raises InputError for another number of them."""
    if predicted.shape != held_out.labels.shape:
        raise InputError(f"{method} gave answers {tuple(predicted.shape)} for {len(held_out):,} images")
    answers, labels = predicted.cpu().numpy().astype(np.int64), held_out.labels.cpu().numpy()
    return MethodScore(method, setting, answers, labels, held_out.classes, held_out.independent, remarks)
