"""Real images: calibration images, on which value ranges are found, and evaluation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitsmith.arrays import Array
from vitsmith.compress.division import divide
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.images.sources import ImageSource
from vitsmith.data.images.unreadable import SHARE, sift
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.data.sets.samples import Lazy, Samples, place_of
from vitsmith.errors import DatasetError, InputError
from vitsmith.evaluation.evaluation import match_classes
from vitsmith.evaluation.held_out import OnImages, Tell, ask, choose, ignore, known_among
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.weights.bundle.bundle import Bundle

FEWEST = 8
"""Fewest images of each part; fewer give neither useful ranges nor a useful measure."""
FEW = 100
"""With fewer images a remark is added: of 100 images, one changed answer is a whole point."""


@dataclass(frozen=True)
class Amounts:
    """How many images are used at most, and the seed that selects them."""

    calibration: int = 300
    evaluation: int = 1000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Photos:
    """Images for one quantisation. No image is in both parts."""

    calibration: Sequence[ImageSource]
    evaluation: Sequence[ImageSource]
    labels: NDArray[np.int64] | None
    """(evaluation images,) positions among the model's classes; None: compare with the model's own answers."""
    name: str
    """Name of the evaluation images in reports."""
    told: tuple[str, ...] = ()
    """Remarks on how the evaluation images were chosen."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Remarks for the user on these images."""
        few = list(self.told)
        for what, count in (("calibration", len(self.calibration)), ("evaluation", len(self.evaluation))):
            if count < FEW:
                few.append(f"only {count} {what} images: with {FEW} and more the result is surer")
        return tuple(few)


def labelled_photos(
    bundle: Bundle,
    data: DataSpec | str,
    split: str = "",
    *,
    images: Sequence[ImageSource] = (),
    amounts: Amounts = Amounts(),
    skip_unreadable: float = SHARE,
    on_images: OnImages = ignore,
    tell: Tell | None = None,
) -> Photos:
    """Evaluation images (held-out images, or `split`) and calibration images (training images, or `images`) of `data`.

    `divide` and `choose` decide which image is in which part, and call `on_images` and `tell`. In each part a share
    of at most `skip_unreadable` may be unreadable: these images are left out, with a remark. Raises DatasetError
    for classes that the model does not know, in either part, and for too few images; InputError for a model without
    classes.
    """
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
        calibration, evaluation_set = _spread(images, amounts.calibration), choose([bundle], asked, on_images=on_images)
    else:
        division = divide(bundle, data, seed=amounts.seed, split=split, on_images=on_images, tell=tell)
        evaluation_set = division.evaluation_set
        calibration = _chosen(division.teaching, amounts.calibration, amounts.seed).sources
    calibration, left_out = _readable(calibration, skip_unreadable)
    labels = match_classes(bundle, evaluation_set.samples)
    evaluation = Samples(
        evaluation_set.samples.classes, evaluation_set.samples.sources, evaluation_set.samples.names, labels
    )
    told = evaluation_set.told_of(amounts.evaluation)
    evaluation = without_unreadable(_chosen(evaluation, amounts.evaluation, amounts.seed), skip_unreadable, left_out)
    _check_enough(len(calibration), len(evaluation), data if isinstance(data, str) else data.path)
    which = evaluation_set.what or "images"
    name = f"{evaluation_set.data}, {len(evaluation):,} {which}"
    return Photos(calibration, evaluation.sources, evaluation.labels, name, (*told, *left_out))


def unlabelled_photos(
    bundle: Bundle,
    images: Sequence[ImageSource],
    *,
    amounts: Amounts = Amounts(),
    skip_unreadable: float = SHARE,
) -> Photos:
    """Images without labels: half of them, at most `amounts.calibration`, calibrate, and the others evaluate.

    Their names and `amounts.seed` decide which; `skip_unreadable` is as for `labelled_photos`. Where it is known, a
    remark says on how many of the evaluation images `bundle` was trained. Raises DatasetError for too few images.
    """
    order = sorted(range(len(images)), key=lambda index: place_of(_name(images[index], index), amounts.seed))
    count = min(amounts.calibration, len(images) // 2)
    calibrating, evaluation_set = sorted(order[:count]), sorted(order[count : count + amounts.evaluation])
    calibration, left_out = _readable([images[index] for index in calibrating], skip_unreadable)
    evaluation, others = _readable([images[index] for index in evaluation_set], skip_unreadable)
    _check_enough(len(calibration), len(evaluation), "`images`")
    name = f"{len(evaluation)} images without labels"
    capped = _told_of_cap(len(images) - count, amounts.evaluation)
    return Photos(
        calibration, evaluation, None, name, (*capped, *left_out, *others, *told_of_known(bundle, evaluation))
    )


def _told_of_cap(there: int, most: int) -> tuple[str, ...]:
    """A remark where only `most` of the evaluation images are used."""
    return (f"evaluating on {most:,} of the {there:,} evaluation images",) if there > most else ()


def told_of_known(bundle: Bundle, evaluation: Sequence[ImageSource]) -> tuple[str, ...]:
    """A remark where `bundle` was trained on some of the evaluation images without labels."""
    known = known_among(bundle, evaluation)
    told = f"{bundle.where} was trained on {known} of the evaluation images, which flatters it: give other images"
    return (told,) if known else ()


def without_unreadable(samples: Samples, share: float, left_out: list[str]) -> Samples:
    """The readable samples; `left_out` gets a remark on each other. Raises DatasetError for too many of these."""
    kept = sift(samples.sources, samples.names, share=share, tell=lambda told: left_out.append(f"left out: {told}"))
    return samples if len(kept) == len(samples) else samples.select(kept)


def _readable(images: Sequence[ImageSource], share: float) -> tuple[Sequence[ImageSource], list[str]]:
    """The readable images, and a remark on each other image. Raises DatasetError for too many of these."""
    left_out: list[str] = []
    names = [_name(image, index) for index, image in enumerate(images)]
    kept = sift(images, names, share=share, tell=lambda told: left_out.append(f"left out: {told}"))
    return images if len(kept) == len(images) else [images[index] for index in kept], left_out


def read_tensors(bundle: Bundle, sources: Sequence[ImageSource]) -> Array:
    """float32 (images, 3, height, width) through the bundle's own preprocessing. Raises ImageError."""
    return np.stack([load_image(source, bundle.preprocessing) for source in sources])


def _chosen(samples: Samples, count: int, seed: int) -> Samples:
    """At most `count` samples, selected by a hash of their names."""
    if len(samples) <= count:
        return samples
    order = sorted(range(len(samples)), key=lambda index: place_of(samples.names[index], seed))
    return samples.select(sorted(order[:count]))


def _spread(images: Sequence[ImageSource], count: int) -> Sequence[ImageSource]:
    """At most `count` images, evenly spaced over the sequence."""
    if len(images) <= count:
        return images
    at = np.linspace(0, len(images) - 1, count).round().astype(np.intp)
    return Lazy(count, lambda position: images[int(at[position])])


def _name(source: ImageSource, index: int) -> str:
    return str(source) if isinstance(source, str) or hasattr(source, "__fspath__") else f"image {index}"


def _check_enough(calibration: int, evaluation: int, where: str) -> None:
    if calibration < FEWEST:
        raise DatasetError(f"{where}: {calibration} calibration images are too few, give at least {FEWEST}")
    if evaluation < FEWEST:
        raise DatasetError(
            f"{where}: {evaluation} evaluation images are too few, give at least {FEWEST} beside the calibration images"
        )
