"""Training and evaluation images for pruning: the training images also decide what is removed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitsmith.compress.division import divide, grown_record
from vitsmith.compress.images import FEWEST as FEWEST_EVALUATION
from vitsmith.compress.images import told_of_known, without_unreadable
from vitsmith.data.batches.load import evaluation_batches
from vitsmith.data.images.sources import ImageSource
from vitsmith.data.images.unreadable import OPTION, SHARE, Unreadable
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.data.sets.samples import Samples, Splits, place_of
from vitsmith.data.sets.split_record import SplitRecord
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.evaluation import match_classes, refuse_regression
from vitsmith.evaluation.held_out import OnImages, Tell, ignore
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.predict import Predictor
from vitsmith.specs import Labels
from vitsmith.weights.bundle.bundle import Bundle

Count = Callable[[int], None]

FEWEST = 20
"""Fewest images; with fewer nobody can say how much accuracy a model lost."""
_HELD_OUT = 0.25  # share of images without labels that evaluate; drawn regardless of class
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Material:
    """Images whose labels are positions among the model's classes."""

    splits: Splits
    """`train` ranks and trains, `val` evaluates. The classes are the model's; some of them may have no image."""
    labelled: bool
    """False: the labels are the model's own answers, and accuracy is agreement with them."""
    name: str
    """Name of the evaluation images in reports."""
    told: tuple[str, ...] = ()
    """Remarks on how the evaluation images were chosen."""
    skip_unreadable: float = SHARE
    """Share of the images of each part that may be unreadable; those of `val` are left out already."""
    record: SplitRecord | None = None
    """Split record of a model that is trained on `train`; None: that of the bundle."""


def labelled_material(
    bundle: Bundle,
    data: DataSpec | str,
    *,
    seed: int = 0,
    skip_unreadable: float = SHARE,
    on_images: OnImages = ignore,
    tell: Tell | None = None,
) -> Material:
    """A data set, divided as `divide` says. Its classes are matched with the model's by name.

    A share of at most `skip_unreadable` of the evaluation images may be unreadable: these are left out, with a remark.

    Raises DatasetError for classes that the model does not know and for too few images, and what `divide` raises.
    """
    check_prunable(bundle)
    division = divide(bundle, data, seed=seed, on_images=on_images, tell=tell)
    evaluation_set = division.evaluation_set
    where = data if isinstance(data, str) else data.path
    _check_enough(len(division.teaching) + len(evaluation_set.samples), where)
    if not len(division.teaching):
        raise DatasetError(f"{where}: the model holds out all of these images, so none is left to train on: add some")
    train, val = (
        Samples(_class_names(bundle), part.sources, part.names, match_classes(bundle, part), part.blocks)
        for part in (division.teaching, evaluation_set.samples)
    )
    record = division.record(bundle, on_images)
    left_out: list[str] = []
    val = without_unreadable(val, skip_unreadable, left_out)
    if len(val) < FEWEST_EVALUATION:
        raise DatasetError(
            f"{where}: {len(val)} evaluation images are too few, give at least {FEWEST_EVALUATION} beside the training "
            "images"
        )
    return Material(
        Splits(train, val), True, evaluation_set.counted, (*evaluation_set.told, *left_out), skip_unreadable, record
    )


def unlabelled_material(
    bundle: Bundle,
    sources: Sequence[ImageSource],
    *,
    seed: int = 0,
    skip_unreadable: float = SHARE,
    on_images: OnImages = ignore,
) -> Material:
    """Images without labels: the model's own answers are the labels.

    A quarter of the images, at least 8, is held out by `seed`. A share of at most `skip_unreadable` of them may be
    unreadable: these are left out, with a remark. Raises DatasetError for too few images.
    """
    check_prunable(bundle)
    left_out: list[str] = []
    names = [_name(source) or f"image {index}" for index, source in enumerate(sources)]
    unreadable = Unreadable(names, skip_unreadable, lambda told: left_out.append(f"left out: {told}"), OPTION)
    logits = Predictor(bundle, "torch", precision="fp32").logits(sources, unreadable)
    kept = unreadable.kept()
    _check_enough(len(kept), "`images`")
    names, labels = [names[at] for at in kept], logits.argmax(axis=1).astype(np.int64)
    samples = Samples(_class_names(bundle), [sources[at] for at in kept], names, labels)
    order = sorted(range(len(samples)), key=lambda index: place_of(names[index], seed))
    held = max(round(_HELD_OUT * len(order)), FEWEST_EVALUATION)
    val, train = samples.select(sorted(order[:held])), samples.select(sorted(order[held:]))
    record = grown_record(bundle, train, val, on_images=on_images)
    told = (*left_out, *told_of_known(bundle, val.sources))
    return Material(Splits(train, val), False, f"{held} images without labels", told, skip_unreadable, record)


def check_prunable(bundle: Bundle) -> None:
    """Raises InputError for a model that has nothing to prune, or whose answers cannot be evaluated."""
    bundle.check_split()
    config = bundle.config
    if bundle.program != "torch":
        raise InputError(
            f"{bundle.where} is an exported program (model.{bundle.program}): prune the bundle it was made from, "
            "and export that"
        )
    if isinstance(config, LiTConfig):
        raise InputError(f"{bundle.where} matches images with texts: only classifiers can be pruned")
    if not config.classes:
        raise InputError(f"{bundle.where} has no classifier: prune the fine-tuned model")
    refuse_regression(bundle, "agreement of first choices")
    if isinstance(config, ViTConfig) and config.pooling.endswith("unpooled"):
        raise InputError(f"{bundle.where} gives logits for every token: prune models that give one answer an image")
    if isinstance(config, ViTConfig) and config.merge:
        raise InputError(f"{bundle.where} merges tokens: prune the model it was made from first, and merge then")


def with_names(bundle: Bundle) -> Bundle:
    """The bundle with label names, which training needs: where it has none, the positions of the classes."""
    return replace(bundle, labels=bundle.labels or Labels(names=_class_names(bundle)))


def spread(samples: Samples, count: int) -> Samples:
    """At most `count` images, evenly spaced over a set that may be sorted by class."""
    if len(samples) <= count:
        return samples
    return samples.select(np.linspace(0, len(samples) - 1, count).round().astype(np.intp))


class Shown:
    """Images of a set as batches on a device; can be iterated again. `on_images` is called with each batch's size."""

    def __init__(
        self, samples: Samples, bundle: Bundle, device: torch.device, on_images: Count, skip_unreadable: float = SHARE
    ) -> None:
        self._samples, self._images, self._device, self._on_images = samples, bundle.preprocessing, device, on_images
        self._skip = skip_unreadable

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        source = evaluation_batches(self._samples, self._images, batch=_BATCH, skip_unreadable=self._skip)
        with closing(source) as batches:
            for held in batches:
                if len(held.labels):
                    yield held.images.to(self._device), held.labels.to(self._device)
                    self._on_images(len(held.labels))


def _class_names(bundle: Bundle) -> tuple[str, ...]:
    return bundle.labels.shown if bundle.labels else tuple(str(index) for index in range(bundle.classes))


def _name(source: ImageSource) -> str | None:
    return os.fsdecode(source) if isinstance(source, str | os.PathLike) else None


def _check_enough(count: int, where: str) -> None:
    if count < FEWEST:
        raise DatasetError(f"{where}: {count} images are too few to prune by, give at least {FEWEST}")
