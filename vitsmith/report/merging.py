"""Draws which patches were merged: each image, and beside it the image with merged patches in their mean colour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitsmith.compress.merge_tokens.patch_groups import groups
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.images.read import Rgb
from vitsmith.engines.pixels import pixels_from_tensors
from vitsmith.report.figure import LETTERS, LIGHT, Theme, new_figure
from vitsmith.weights.bundle.bundle import Bundle

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Groups = NDArray[np.int64]

SIDE = 2.6
"""Inches of an image."""


def draw_merging(bundle: Bundle, images: Sequence[Rgb], theme: Theme = LIGHT) -> Figure:
    """Draws a row for each image (uint8 RGB of any size): as the model sees it, and in its groups of patches."""
    tensors = np.stack([preprocess(image, bundle.preprocessing) for image in images])
    found = groups(bundle.model, torch.from_numpy(tensors)).numpy()
    shown = pixels_from_tensors(tensors, bundle.preprocessing)
    height, width = bundle.preprocessing.size
    figure = new_figure(theme)
    figure.set_size_inches(2 * SIDE * width / height + 0.2, SIDE * len(images) + 0.35)
    rows: Any = figure.subplots(len(images), 2, squeeze=False)
    for axes, image, one in zip(rows, shown, found, strict=True):
        axes[0].imshow(image)
        axes[1].imshow(painted(image, one), interpolation="nearest")
        _outline(axes[1], one, (height, width), theme)
        for side in axes:
            side.set_axis_off()
    left, patches = len(np.unique(found[0])), found[0].size
    rows[0][0].set_title("image", color=theme.ink, fontsize=LETTERS)
    rows[0][1].set_title(f"{patches} patches in {left} tokens", color=theme.ink, fontsize=LETTERS)
    return figure


def painted(image: Rgb, found: Groups) -> Rgb:
    """The image (height, width, 3) with each pixel in its group's mean colour; `found` has groups (rows, columns)."""
    each = labels_of_pixels(found, image.shape[:2])
    numbers, flat = np.unique(each, return_inverse=True)
    counts = np.bincount(flat.ravel(), minlength=len(numbers))
    colours = np.stack(
        [np.bincount(flat.ravel(), image[..., channel].ravel(), len(numbers)) / counts for channel in range(3)], axis=-1
    )
    result: Rgb = colours.round().astype(np.uint8)[flat].reshape(image.shape)
    return result


def labels_of_pixels(found: Groups, size: tuple[int, ...]) -> Groups:
    """(rows, columns) -> (height, width): the group of the patch that each pixel is in."""
    rows, columns = (np.arange(side) * patches // side for side, patches in zip(size, found.shape, strict=True))
    result: Groups = found[np.ix_(rows, columns)]
    return result


def _outline(axes: Any, found: Groups, size: tuple[int, int], theme: Theme) -> None:
    """Draws lines between neighbouring patches of different groups."""
    from matplotlib.collections import LineCollection

    height, width = size[0] / found.shape[0], size[1] / found.shape[1]
    lines = []
    for row, column in np.argwhere(found[:, 1:] != found[:, :-1]):
        x = (column + 1) * width - 0.5
        lines.append([(x, row * height - 0.5), (x, (row + 1) * height - 0.5)])
    for row, column in np.argwhere(found[1:] != found[:-1]):
        y = (row + 1) * height - 0.5
        lines.append([(column * width - 0.5, y), ((column + 1) * width - 0.5, y)])
    axes.add_collection(LineCollection(lines, colors=theme.paper, linewidths=0.7, capstyle="projecting"))
