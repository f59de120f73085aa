"""Images that decide what of a model is pruned, teach what is left, and judge it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vitsmith.compress.calibration import FEWEST as FEWEST_EVALUATION
from vitsmith.compress.calibration import told_of_known, without_unreadable
from vitsmith.compress.division import divide, grown_record
from vitsmith.data.batches import evaluation_batches
from vitsmith.data.datasets import DataSpec
from vitsmith.data.image_sources import ImageSource
from vitsmith.data.samples import Samples, Splits, place_of
from vitsmith.data.split_record import SplitRecord
from vitsmith.data.unreadable import OPTION, SHARE, Unreadable
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.evaluation import match_classes, refuse_regression
from vitsmith.evaluation.held_out import OnImages, Tell, ignore
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.predict import Predictor
from vitsmith.specs import Labels
from vitsmith.weights.bundle import Bundle

Count = Callable[[int], None]

FEWEST = 20
"""Images that are needed: of fewer nobody can say what a model lost."""
_HELD_OUT = 0.25  # of images without labels; there is no need to keep classes together
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Material:
    """Images whose labels are positions among the model's classes."""

    splits: Splits
    """`train` decides and teaches, `val` judges. Its classes are the model's, of which the images may show fewer."""
    labelled: bool
    """False: the labels are the model's own answers, and accuracy is agreement with them."""
    name: str
    """What reports call the images that judge."""
    told: tuple[str, ...] = ()
    """Which of the model's images these are."""
    skip_unreadable: float = SHARE
    """Share of the images of either that may be unreadable; those of `val` are left out already."""
    record: SplitRecord | None = None
    """What a model that learned from `train` says of its images; None: what the bundle says."""


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

    Up to a share of `skip_unreadable` of the images that judge may be unreadable: they are left out, and told of.

    Raises DatasetError for classes that the model does not know and for too few images, and what `divide` raises.
    """
    check_prunable(bundle)
    division = divide(bundle, data, seed=seed, on_images=on_images, tell=tell)
    evaluation_set = division.evaluation_set
    where = data if isinstance(data, str) else data.path
    _check_enough(len(division.teaching) + len(evaluation_set.samples), where)
    if not len(division.teaching):
        raise DatasetError(f"{where} has no images to learn from that the model does not hold out: add some")
    train, val = (
        Samples(_class_names(bundle), part.sources, part.names, match_classes(bundle, part), part.blocks)
        for part in (division.teaching, evaluation_set.samples)
    )
    record = division.record(bundle, on_images)
    left_out: list[str] = []
    val = without_unreadable(val, skip_unreadable, left_out)
    if len(val) < FEWEST_EVALUATION:
        raise DatasetError(
            f"{where}: {len(val)} images are too few to judge by, give at least {FEWEST_EVALUATION} that do not teach"
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
    """Images without labels: what the model says of each is taken for its class. A quarter, of few images
    8, is held out by `seed`.

    Up to a share of `skip_unreadable` of them may be unreadable: they are left out, and told of. Raises DatasetError
    for too few images.
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
    """Raises InputError for what has nothing to prune or cannot be judged by its answers."""
    bundle.check_split()
    config = bundle.config
    if bundle.program != "torch":
        raise InputError(
            f"{bundle.where} is an exported program (model.{bundle.program}): prune the bundle it was made from, "
            "and export that"
        )
    if isinstance(config, LiTConfig):
        raise InputError(f"{bundle.where} matches images with texts: only classifiers are pruned, by what they answer")
    if not config.classes:
        raise InputError(f"{bundle.where} has no classifier: prune the model that was fine-tuned, by what it answers")
    refuse_regression(bundle, "agreement of first choices")
    if isinstance(config, ViTConfig) and config.pooling.endswith("unpooled"):
        raise InputError(f"{bundle.where} gives logits for every token: prune models that give one answer an image")
    if isinstance(config, ViTConfig) and config.merge:
        raise InputError(f"{bundle.where} merges tokens: prune the model it was made from first, and merge then")


def with_names(bundle: Bundle) -> Bundle:
    """The bundle with label names, made up where it has none: training matches classes by name."""
    return replace(bundle, labels=bundle.labels or Labels(names=_class_names(bundle)))


def spread(samples: Samples, count: int) -> Samples:
    """At most `count` images from all over a set, which may be sorted by class."""
    if len(samples) <= count:
        return samples
    return samples.select(np.linspace(0, len(samples) - 1, count).round().astype(np.intp))


class Shown:
    """Images of a set as batches on a device, as often as they are asked for. `on_images` hears how many were seen."""

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
