"""Features of labelled images, checked once: what every probe is fitted to and scored on.

N images, D features, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vitsmith.errors import NOT_FINITE, InputError, NotFiniteError

FEWEST_IMAGES = 3
"""A probe is fitted to no fewer images."""
_BLOCK = 16_384  # rows that are converted to float64 at once
_NAMED = 5  # rows that a message names


@dataclass(frozen=True, eq=False)
class LabelledFeatures:
    """Features (N, D) of images as the model gives them, and their labels (N,), 0 to K - 1.

    Features become float32, labels and groups int64, on one device; the tensors given are not changed. Images with
    the same number in `groups` (N,) belong together, such as crops of one photo: cross-validation never trains on one
    and scores another, and intervals count them as one.

    Raises InputError for shapes that do not fit and labels out of range, and NotFiniteError, which names the rows.
    """

    features: Tensor
    labels: Tensor
    classes: int
    groups: Tensor | None = None

    def __post_init__(self) -> None:
        shape = tuple(self.features.shape)
        if len(shape) != 2 or 0 in shape:
            raise InputError(f"features have the shape {shape}: give at least one image, as (images, numbers)")
        for name, values in (("labels", self.labels), ("groups", self.groups)):
            if values is not None and tuple(values.shape) != shape[:1]:
                raise InputError(f"`{name}` have the shape {tuple(values.shape)}, and there are {shape[0]:,} images")
            if values is not None and (values.is_floating_point() or values.is_complex()):
                raise InputError(f"`{name}` are {values.dtype}: give whole numbers")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= self.classes:
            raise InputError(
                f"labels are {low} to {high}, and {self.classes} classes have labels 0 to {self.classes - 1}"
            )
        features = self.features.detach().to(torch.float32)
        _require_finite(features)
        object.__setattr__(self, "features", features)
        object.__setattr__(self, "labels", self.labels.to(features.device, torch.int64))
        if self.groups is not None:
            object.__setattr__(self, "groups", self.groups.to(features.device, torch.int64))

    def __len__(self) -> int:
        return len(self.features)

    @property
    def width(self) -> int:
        """D, the numbers of an image."""
        return self.features.shape[1]

    @property
    def independent(self) -> float:
        """How many independent images give a mean that is as sure as that of these: N without groups.

        The images of a group count as one that is there several times (L. Kish, Survey Sampling, 1965, chapter 11.7).
        """
        if self.groups is None:
            return float(len(self))
        sizes = torch.unique(self.groups, return_counts=True)[1].double()
        return float(sizes.sum() ** 2 / sizes.square().sum())

    def counts(self) -> Tensor:
        """(K,) int64: images of each class."""
        return torch.bincount(self.labels, minlength=self.classes)

    def present(self) -> tuple[Tensor, Tensor]:
        """(P,) the classes that have images, ascending, and (N,) which of them each image has, 0 to P - 1."""
        found: tuple[Tensor, Tensor] = torch.unique(self.labels, return_inverse=True)
        return found


def require_for_fitting(train: LabelledFeatures) -> None:
    """Raise InputError where nothing can be learned: fewer than 3 images, or all of one class."""
    if len(train) < FEWEST_IMAGES:
        raise InputError(
            f"a probe needs at least {FEWEST_IMAGES} training images, and there are {len(train)}: add images"
        )
    if int((train.counts() > 0).sum()) < 2:
        raise InputError("all training images are of one class, so there is nothing to tell apart: add another class")


def is_enough(train: LabelledFeatures) -> bool:
    """Whether a probe can be fitted: at least 3 images, of at least 2 classes."""
    return len(train) >= FEWEST_IMAGES and int((train.counts() > 0).sum()) > 1


def require_width(queries: Tensor, width: int) -> None:
    """Raise InputError for features (M, D) that are not `width` numbers an image."""
    if queries.ndim != 2 or queries.shape[1] != width:
        raise InputError(
            f"the probe was fitted to {width:,} numbers an image, and these features have the shape "
            f"{tuple(queries.shape)}: take them from the same model"
        )


def unit(features: Tensor) -> Tensor:
    """(N, D) features, each divided by its length; zeros stay zeros. Huge and tiny numbers do not overflow."""
    largest = features.abs().amax(dim=1, keepdim=True)
    scaled = features / torch.where(largest > 0, largest, 1.0)
    length = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled / torch.where(length > 0, length, 1.0)


def blocks(count: int, rows: int = _BLOCK) -> list[slice]:
    """Slices of at most `rows` that cover `count` rows."""
    return [slice(start, start + rows) for start in range(0, count, rows)]


def _require_finite(features: Tensor) -> None:
    rows = [int(row) for row in (~torch.isfinite(features).all(dim=1)).nonzero()[:, 0]]
    if rows:
        named = ", ".join(map(str, rows[:_NAMED])) + (f" and {len(rows) - _NAMED:,} more" if len(rows) > _NAMED else "")
        raise NotFiniteError(
            f"features of {len(rows):,} of {len(features):,} images are {NOT_FINITE}, in rows {named}: check these "
            "images and the model's weights"
        )
