"""Random erasing (arXiv 1708.04896), mixup (arXiv 1710.09412) and the targets that mixing needs.

These are pure functions of the random numbers, so that an image's result does not depend on how its batch was cut.
Letters: B batch, K classes, h, w image size.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import betaincinv
from torch import Tensor

Draws = NDArray[np.float64]

ERASING_DRAWS = 5  # random numbers for one erased box: whether to erase, its area, aspect, and position (down, across)

_AREA = (0.02, 0.4)  # share of the image; s_l and s_h of arXiv 1708.04896
_ASPECT = (0.3, 1 / 0.3)  # height / width; r_1 and r_2 of the same


def erased_boxes(draws: Draws, *, share: float, size: tuple[int, int]) -> NDArray[np.intp]:
    """(B, 4): (top, bottom, left, right) of the box to erase in each image, ends excluded; an empty box erases nothing.

    `draws`: (B, 5) in [0, 1). `share`: the share of the images that lose a box. The paper draws an area and an aspect
    until the box fits; here the aspect is drawn among those that fit, wide and tall ones equally often.
    """
    height, width = size
    area = _AREA[0] + draws[:, 1] * (_AREA[1] - _AREA[0])
    low = np.maximum(_ASPECT[0], area * height / width)
    high = np.maximum(np.minimum(_ASPECT[1], height / width / area), low)  # a narrow image may permit one aspect only
    aspect = low * (high / low) ** draws[:, 2]
    tall = np.clip(np.rint(np.sqrt(area * height * width * aspect)), 1, height)
    wide = np.clip(np.rint(np.sqrt(area * height * width / aspect)), 1, width)
    top, left = np.floor(draws[:, 3] * (height - tall + 1)), np.floor(draws[:, 4] * (width - wide + 1))
    boxes = np.stack([top, top + tall, left, left + wide], axis=1).astype(np.intp)
    return np.where(draws[:, :1] < share, boxes, 0)


def erase(images: Tensor, boxes: NDArray[np.intp]) -> Tensor:
    """Set the box of each normalised image (B, 3, h, w) to 0, the mean colour, in place.

    This is RE-M of the paper; its RE-R would need random noise for every pixel.
    """
    height, width = images.shape[2:]
    top, bottom, left, right = torch.from_numpy(boxes.T.copy()).to(images.device)[..., None]
    row, column = (torch.arange(length, device=images.device) for length in (height, width))
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    return images.masked_fill_(rows[:, None, :, None] & columns[:, None, None, :], 0)


def targets(labels: Tensor, classes: int, *, smoothing: float = 0.0) -> Tensor:
    """Labels (B,) int64 as probabilities (B, K) float32: (1 - smoothing) for the class, `smoothing` spread over all."""
    spread = torch.full((len(labels), classes), smoothing / classes, dtype=torch.float32, device=labels.device)
    return spread.scatter_(1, labels[:, None], 1 - smoothing + smoothing / classes)


def mixing_shares(draws: Draws, alpha: float) -> Draws:
    """Turn uniform draws in [0, 1) into shares that follow Beta(alpha, alpha), of the same shape."""
    shares: Draws = betaincinv(alpha, alpha, draws)
    return shares


def mix_neighbours(values: Tensor, shares: Draws) -> Tensor:
    """Mix rows 2k and 2k + 1 of `values` (B, ...): `share` of the row itself, the rest of its neighbour.

    `shares`: (B / 2,). The original mixes each image with the next of its batch, and takes the larger of the share and
    its complement; mixing two neighbours both ways gives the same, except for the order within the pair.
    """
    pairs = values.view(-1, 2, *values.shape[1:])
    share = torch.from_numpy(shares.astype(np.float32)).to(values.device).view(-1, *[1] * (pairs.ndim - 1))
    # Not torch.lerp, which may fuse: the last bit must not depend on how many rows there are.
    return (pairs * share).add_(pairs.flip(1).mul_(1 - share)).flatten(0, 1)
