"""The images that a verb is given: those that calibrate, or train, and those that evaluate."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vitsmith.arguments import Tell
from vitsmith.arrays import Array
from vitsmith.compress.image_split import divide, grown_record
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.images.sources import ImageSource
from vitsmith.data.images.unreadable import OPTION, SHARE, Unreadable, sift
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.data.sets.samples import Samples, place_of
from vitsmith.data.sets.split_record import SplitRecord
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.evaluation import match_classes
from vitsmith.evaluation.held_out import OnImages, ask, choose, ignore, known_among
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.predict import Predictor
from vitsmith.weights.bundle.bundle import Bundle

FEWEST = 8
"""Fewest images of each part; fewer give neither useful ranges nor a useful measure."""
FEW = 100
"""With fewer images a remark is added: of 100 images, one changed answer is a whole point."""
FEWEST_TO_TRAIN = 20
"""Fewest images for a verb that trains; with fewer nobody can say how much accuracy a model lost."""
_HELD_OUT = 0.25  # share of images without labels that evaluate where the others train; drawn regardless of class


@dataclass(frozen=True)
class Amounts:
    """How many images are used at most, and the seed that selects them."""

    calibration: int = 300
    evaluation: int = 1000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class TaskImages:
    """Images of the user's task. No image is in both parts."""

    calibration: Samples
    """They find ranges of int8, rank what is pruned and search for schedules; distillation trains on them."""
    evaluation: Samples
    """Labels are positions among the model's classes, see `labelled`."""
    labelled: bool
    """False: the labels are not those of the images. Where a verb trains they are the model's own answers."""
    name: str
    """Name of the evaluation images in reports."""
    told: tuple[str, ...] = ()
    """Remarks on how the evaluation images were chosen."""
    skip_unreadable: float = SHARE
    """Share of each part that may be unreadable; unreadable evaluation images are left out already."""
    record: SplitRecord | None = None
    """Split record of a model that is trained on these images; None: that of the bundle."""

    @classmethod
    def of(
        cls,
        calibration: Sequence[ImageSource],
        evaluation: Sequence[ImageSource],
        name: str,
        *,
        labels: NDArray[np.int64] | None = None,
    ) -> Self:
        """Images from two sequences; `labels` (evaluation images,) are positions among the model's classes."""
        return cls(_samples(calibration), _samples(evaluation, labels), labels is not None, name)

    @property
    def labels(self) -> NDArray[np.int64] | None:
        """(evaluation images,) positions among the model's classes; None: compare with the model's own answers."""
        return self.evaluation.labels if self.labelled else None

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks for the user on these images."""
        few = list(self.told)
        for what, count in (("calibration", len(self.calibration)), ("evaluation", len(self.evaluation))):
            if count < FEW:
                few.append(f"only {count} {what} images: with {FEW} and more the result is surer")
        return tuple(few)


def labelled_images(
    bundle: Bundle,
    data: DataSpec | str,
    split: str = "",
    *,
    images: Sequence[ImageSource] = (),
    amounts: Amounts = Amounts(),
    skip_unreadable: float = SHARE,
    on_images: OnImages = ignore,
    tell: Tell | None = None,
) -> TaskImages:
    """Evaluation images (held-out images, or `split`) and calibration images (training images, or `images`) of `data`.

    `divide` and `choose` decide which image is in which part, and call `on_images` and `tell`. In each part a share
    of at most `skip_unreadable` may be unreadable: these images are left out, with a remark. Raises DatasetError
    for classes that the model does not know, in either part, and for too few images; InputError for a model without
    classes.
    """
    bundle.check_preprocessing()
    if isinstance(bundle.config, LiTConfig) or not bundle.classes:
        raise InputError(
            f"{bundle.where} has no classes of its own, and cannot be evaluated on labelled data: give `images`"
        )
    if isinstance(bundle.config, ViTConfig) and bundle.config.pooling.endswith("unpooled"):
        raise InputError(
            f"{bundle.where} gives logits for each patch, and cannot be evaluated on labels of images: give `images`"
        )
    if len(images):
        asked = ask(data, split, tell=tell)
        match_classes(bundle, asked.samples)
        calibration = spread(_samples(images), amounts.calibration)
        evaluation_set = choose([bundle], asked, on_images=on_images)
    else:
        division = divide(bundle, data, seed=amounts.seed, split=split, on_images=on_images, tell=tell)
        evaluation_set = division.evaluation_set
        calibration = _chosen(division.training, amounts.calibration, amounts.seed)
    left_out: list[str] = []
    calibration = readable(calibration, skip_unreadable, left_out)
    evaluation = _chosen(_of_model(bundle, evaluation_set.samples), amounts.evaluation, amounts.seed)
    evaluation = readable(evaluation, skip_unreadable, left_out)
    _check_enough(len(calibration), len(evaluation), data if isinstance(data, str) else data.path)
    name = f"{evaluation_set.data}, {len(evaluation):,} {evaluation_set.what or 'images'}"
    told = (*evaluation_set.told_of(amounts.evaluation), *left_out)
    return TaskImages(calibration, evaluation, True, name, told, skip_unreadable)


def unlabelled_images(
    bundle: Bundle,
    images: Sequence[ImageSource],
    *,
    amounts: Amounts = Amounts(),
    skip_unreadable: float = SHARE,
) -> TaskImages:
    """Images without labels: half of them, at most `amounts.calibration`, calibrate, and the others evaluate.

    Their names and `amounts.seed` decide which; `skip_unreadable` is as for `labelled_images`. Where it is known, a
    remark says on how many of the evaluation images `bundle` was trained. Raises DatasetError for too few images.
    """
    samples, count = _samples(images), min(amounts.calibration, len(images) // 2)
    order = _by_name(samples, amounts.seed)
    left_out: list[str] = []
    calibration = readable(samples.select(sorted(order[:count])), skip_unreadable, left_out)
    most = amounts.evaluation
    evaluation = readable(samples.select(sorted(order[count : count + most])), skip_unreadable, left_out)
    _check_enough(len(calibration), len(evaluation), "`images`")
    there = len(images) - count
    capped = (f"evaluating on {most:,} of the {there:,} evaluation images",) if there > most else ()
    told = (*capped, *left_out, *_told_of_known(bundle, evaluation))
    name = f"{len(evaluation)} images without labels"
    return TaskImages(calibration, evaluation, False, name, told, skip_unreadable)


def labelled_training_images(
    bundle: Bundle,
    data: DataSpec | str,
    *,
    seed: int = 0,
    skip_unreadable: float = SHARE,
    on_images: OnImages = ignore,
    tell: Tell | None = None,
) -> TaskImages:
    """All images of a data set, for a verb that trains, divided as `divide` says and matched with the model's classes.

    A share of at most `skip_unreadable` of the evaluation images may be unreadable: these are left out, with a remark.

    Raises DatasetError for classes that the model does not know and for too few images, and what `divide` raises.
    """
    division = divide(bundle, data, seed=seed, on_images=on_images, tell=tell)
    evaluation_set = division.evaluation_set
    where = data if isinstance(data, str) else data.path
    _check_enough_to_train(len(division.training) + len(evaluation_set.samples), where)
    if not len(division.training):
        raise DatasetError(f"{where}: the model holds out all of these images, so none is left to train on: add some")
    training, evaluation = (_of_model(bundle, part) for part in (division.training, evaluation_set.samples))
    record = division.record(bundle, on_images)
    left_out: list[str] = []
    evaluation = readable(evaluation, skip_unreadable, left_out)
    if len(evaluation) < FEWEST:
        raise DatasetError(
            f"{where}: {len(evaluation)} evaluation images are too few, give at least {FEWEST} beside the training "
            "images"
        )
    told = (*evaluation_set.told, *left_out)
    return TaskImages(training, evaluation, True, evaluation_set.counted, told, skip_unreadable, record)


def unlabelled_training_images(
    bundle: Bundle,
    sources: Sequence[ImageSource],
    *,
    seed: int = 0,
    skip_unreadable: float = SHARE,
    on_images: OnImages = ignore,
) -> TaskImages:
    """Images without labels, for a verb that trains: the model's own answers are the labels.

    A quarter of the images, at least 8, is held out by `seed`. A share of at most `skip_unreadable` of them may be
    unreadable: these are left out, with a remark. Raises DatasetError for too few images.
    """
    left_out: list[str] = []
    samples = _samples(sources)
    unreadable = Unreadable(samples.names, skip_unreadable, lambda told: left_out.append(f"left out: {told}"), OPTION)
    logits = Predictor(bundle, "torch", precision="fp32").logits(sources, unreadable)
    samples, labels = samples.select(unreadable.kept()), logits.argmax(axis=1).astype(np.int64)
    _check_enough_to_train(len(samples), "`images`")
    samples = Samples(_class_names(bundle), samples.sources, samples.names, labels)
    order = _by_name(samples, seed)
    held = max(round(_HELD_OUT * len(order)), FEWEST)
    evaluation, training = samples.select(sorted(order[:held])), samples.select(sorted(order[held:]))
    record = grown_record(bundle, training, evaluation, on_images=on_images)
    told = (*left_out, *_told_of_known(bundle, evaluation))
    return TaskImages(training, evaluation, False, f"{held} images without labels", told, skip_unreadable, record)


def readable(samples: Samples, share: float, left_out: list[str]) -> Samples:
    """The readable samples; `left_out` gets a remark on each other. Raises DatasetError for too many of these."""
    kept = sift(samples.sources, samples.names, share=share, tell=lambda told: left_out.append(f"left out: {told}"))
    return samples if len(kept) == len(samples) else samples.select(kept)


def spread(samples: Samples, count: int) -> Samples:
    """At most `count` images, evenly spaced over a set that may be sorted by class."""
    if len(samples) <= count:
        return samples
    return samples.select(np.linspace(0, len(samples) - 1, count).round().astype(np.intp))


def read_tensors(bundle: Bundle, sources: Sequence[ImageSource]) -> Array:
    """float32 (images, 3, height, width) through the bundle's own preprocessing. Raises ImageError."""
    bundle.check_preprocessing()
    return np.stack([load_image(source, bundle.preprocessing) for source in sources])


def _samples(sources: Sequence[ImageSource], labels: NDArray[np.int64] | None = None) -> Samples:
    """Images that are not in a data set, under the names of their files."""
    names = [
        os.fsdecode(source) if isinstance(source, str | os.PathLike) else f"image {index}"
        for index, source in enumerate(sources)
    ]
    return Samples((), sources, names, np.zeros(len(names), np.int64) if labels is None else labels)


def _of_model(bundle: Bundle, samples: Samples) -> Samples:
    """The samples with the model's classes. Raises DatasetError for classes that it does not know."""
    labels = match_classes(bundle, samples)
    return Samples(_class_names(bundle), samples.sources, samples.names, labels, samples.blocks)


def _class_names(bundle: Bundle) -> tuple[str, ...]:
    return bundle.labels.shown if bundle.labels else tuple(str(index) for index in range(bundle.classes))


def _by_name(samples: Samples, seed: int) -> list[int]:
    """Positions of the samples, ordered by a hash of their names."""
    return sorted(range(len(samples)), key=lambda index: place_of(samples.names[index], seed))


def _chosen(samples: Samples, count: int, seed: int) -> Samples:
    """At most `count` samples, selected by a hash of their names."""
    return samples if len(samples) <= count else samples.select(sorted(_by_name(samples, seed)[:count]))


def _told_of_known(bundle: Bundle, evaluation: Samples) -> tuple[str, ...]:
    """A remark where `bundle` was trained on some of the evaluation images without labels."""
    known = known_among(bundle, evaluation.sources)
    told = f"{bundle.where} was trained on {known} of the evaluation images, which flatters it: give other images"
    return (told,) if known else ()


def _check_enough(calibration: int, evaluation: int, where: str) -> None:
    if calibration < FEWEST:
        raise DatasetError(f"{where}: {calibration} calibration images are too few, give at least {FEWEST}")
    if evaluation < FEWEST:
        raise DatasetError(
            f"{where}: {evaluation} evaluation images are too few, give at least {FEWEST} beside the calibration images"
        )


def _check_enough_to_train(count: int, where: str) -> None:
    if count < FEWEST_TO_TRAIN:
        raise DatasetError(f"{where}: {count} images are too few to prune by, give at least {FEWEST_TO_TRAIN}")
