"""What both linear probes share: standardised features in their principal axes, and weights for the raw features.

N training images, M queries, D features, K classes, R principal axes: at most D, and fewer than N.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vitsmith.probing.classifiers.choice import Choice
from vitsmith.probing.classifiers.labelled import LabelledFeatures, blocks, require_width

_CONSTANT = 1e-4
"""A feature whose deviation is below this share of its mean says nothing.

The rounding of a model in float32, about 1e-6 of the mean, is a hundredth of such a deviation; and in the raw head the
product of weight and mean, far above the logits, is taken off again by the bias.
"""
_EMPTY = 1e-10  # an axis with a smaller share of the largest variance is rounding
_NEVER = 10.0  # by how much the logit of a class without training images is below the lowest of any training image


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear layer on raw features: logits = features @ weight.T + bias."""

    weight: Tensor
    """(K, D) float32."""
    bias: Tensor
    """(K,) float32."""

    def logits(self, features: Tensor) -> Tensor:
        """(M, K) logits of features (M, D). Raises InputError for another D."""
        require_width(features, self.weight.shape[1])
        return torch.addmm(self.bias, features.to(self.weight.device, torch.float32), self.weight.T)


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A linear classifier on features, standardised or not: the standardisation is in its weights."""

    method: str
    head: LinearHead
    choice: Choice

    def classify(self, queries: Tensor) -> Tensor:
        """(M,) int64 classes of features (M, D); among equals the lower class. Raises InputError for another D."""
        return self.head.logits(queries).argmax(dim=1)


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """Standardised training features in their principal axes.

    A penalty on the length of weights is the same in any rotated axes, and the best weights have no part outside the
    span of the training features: least squares and logistic regression lose nothing here. Their optimum is found
    sooner, because the axes do not correlate.
    """

    mean: Tensor
    """(D,) float64."""
    deviation: Tensor
    """(D,) float64; 1 for a feature that never changes."""
    rotation: Tensor
    """(D, R) float64, orthonormal columns."""
    variances: Tensor
    """(R,) float64, largest first."""
    coordinates: Tensor
    """(N, R) float32: standardised features @ rotation."""

    def head(self, weight: Tensor, bias: Tensor, present: Tensor, classes: int) -> LinearHead:
        """The layer on raw features that does what `weight` (R, P) and `bias` (P,) do on coordinates.

        They are of the P classes in `present`, in order. Any other of the `classes` gets a logit that is the same for
        all images and 10 below the lowest of any training image: it has no training images, and is not answered.
        """
        raw = (self.rotation @ weight.to(self.rotation)) / self.deviation[:, None]  # (D, P)
        whole, offset = raw.new_zeros(classes, len(raw)), raw.new_zeros(classes)
        whole[present], offset[present] = raw.T, bias.to(raw) - self.mean @ raw
        if len(present) < classes:
            lowest = min(
                float((self.coordinates[rows] @ weight.float()).add(bias.float()).min()) for rows in self._blocks()
            )
            absent = torch.ones(classes, dtype=torch.bool, device=offset.device).index_fill_(0, present, False)
            offset[absent] = lowest - _NEVER
        return LinearHead(whole.float(), offset.float())

    def standardised(self, features: Tensor) -> Tensor:
        """(n, D) float64 of raw features (n, D)."""
        return (features.to(self.mean) - self.mean) / self.deviation

    def _blocks(self) -> list[slice]:
        return blocks(len(self.coordinates))


def principal_axes(train: LabelledFeatures) -> PrincipalAxes:
    """Standardises features by their mean and deviation, and rotates them; computed in float64, by blocks of rows.

    A feature that never changes is left out of every logit. The smaller of the two Gram matrices, (D, D) and (N, N),
    is decomposed.
    """
    features, precise = train.features, torch.float32 if train.features.device.type == "mps" else torch.float64
    mean, squared = (torch.zeros(train.width, dtype=precise, device=features.device) for _ in range(2))
    for rows in blocks(len(features)):
        mean += features[rows].to(precise).sum(dim=0) / len(features)
    for rows in blocks(len(features)):
        squared += (features[rows].to(precise) - mean).square().sum(dim=0) / len(features)
    deviation = squared.sqrt()
    deviation = torch.where(deviation > _CONSTANT * mean.abs(), deviation, torch.inf)

    def standardised(rows: slice) -> Tensor:
        return (features[rows].to(precise) - mean) / deviation

    rotation, variances = _axes(standardised, *features.shape)
    coordinates = torch.cat([(standardised(rows) @ rotation).float() for rows in blocks(len(features))])
    deviation = torch.where(deviation.isinf(), 1.0, deviation)
    return PrincipalAxes(mean, deviation, rotation, variances, coordinates)


def _axes(standardised: Callable[[slice], Tensor], count: int, width: int) -> tuple[Tensor, Tensor]:
    """Rotation (D, R) and variances (R,), largest first, of `count` rows of `width` numbers."""
    if count > width:
        parts = map(standardised, blocks(count))
        variances, rotation = torch.linalg.eigh(sum(part.T @ part for part in parts) / count)
        kept = _kept(variances)
        return rotation[:, kept], variances[kept]
    rows = standardised(slice(count))
    variances, vectors = torch.linalg.eigh(rows @ rows.T / count)
    kept = _kept(variances)
    return rows.T @ (vectors[:, kept] / (variances[kept] * count).sqrt()), variances[kept]


def _kept(variances: Tensor) -> Tensor:
    """(R,) places of the variances that are more than rounding, largest first; `variances` ascend."""
    return (variances > _EMPTY * variances[-1].clamp(min=0)).nonzero()[:, 0].flip(0)
