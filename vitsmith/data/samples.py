"""Labelled images of one data set: where each picture is, what it is called, and which class it shows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.images import ImageSource, read_image
from vitsmith.errors import DatasetError


@dataclass(frozen=True, eq=False)
class Samples:
    """Images that are read only when asked for, and their labels."""

    classes: tuple[str, ...]
    """Names of the classes; a label is a position in it."""
    sources: Sequence[ImageSource]
    """The path of each image, or its pixels."""
    names: Sequence[str]
    """What to call each image: its path from the data set's folder, with '/' on every system."""
    labels: NDArray[np.int64]
    """(images,) positions in `classes`."""

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Pixels of one image, uint8 RGB of shape (height, width, 3). Raises ImageError."""
        return read_image(self.sources[index])

    def select(self, indices: Sequence[int]) -> Samples:
        """Only the images at `indices`, in that order."""
        return Samples(
            self.classes,
            [self.sources[index] for index in indices],
            [self.names[index] for index in indices],
            self.labels[np.asarray(indices, np.intp)],
        )


@dataclass(frozen=True, eq=False)
class Splits:
    """What to learn from, and what to be judged on. Both have the same classes in the same order."""

    train: Samples
    val: Samples

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes


def stratified_split(samples: Samples, *, seed: int, fraction: float) -> Splits:
    """Holds out `fraction` of every class, at least one image and never all of them.

    An image's place is decided by a hash of its name and `seed`: the split is the same on every machine and with every
    version of NumPy, and adding images hardly changes what happens to those that were there.

    Raises DatasetError for a fraction outside 0..1 and for a class of a single image.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"the share of images to hold out must be between 0 and 1, got {fraction}")
    held_out: list[int] = []
    for label, name in enumerate(samples.classes):
        members = np.flatnonzero(samples.labels == label).tolist()
        if len(members) < 2:
            raise DatasetError(
                f"class {name!r} has too few images to hold some out ({len(members)}): "
                "add images, or give the data set a val folder of its own"
            )
        members.sort(key=lambda index: _place(samples.names[index], seed))
        held_out += members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]
    kept = np.setdiff1d(np.arange(len(samples)), held_out)
    return Splits(train=samples.select(kept.tolist()), val=samples.select(sorted(held_out)))


def _place(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
