"""Learned position embeddings, and their interpolation to another grid."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ResizeMethod = Literal["zoom", "bicubic", "bicubic_plain", "bicubic_offset", "bilinear_plain"]


class PositionEmbedding(nn.Module):
    """Adds one learned vector to each token: (batch, tokens, width) -> the same."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Parameter(torch.zeros(1, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.embedding


def resize_positions(
    embedding: Tensor,
    old: tuple[int, int],
    new: tuple[int, int],
    *,
    prefix: int,
    method: ResizeMethod = "zoom",
) -> Tensor:
    """Interpolate position embeddings to another grid: (1, prefix + rows * columns, width) -> (1, prefix + new tokens,
    width).

    `prefix` tokens (the class token's) are kept. 'zoom' is the original's `scipy.ndimage.zoom(order=1)`
    (checkpoint.py, `interpolate_posembed`), which aligns the corners. The others have half-pixel centres: 'bicubic' is
    antialiased, as in timm and DINOv2 with registers; 'bicubic_plain' is not, as in HF; 'bicubic_offset' is DINOv2
    without registers, which samples by the factor (new + 0.1) / old; 'bilinear_plain' is Perception Encoder's. Both
    grids are (rows, columns) and come from configurations, never from a square root.
    """
    width = embedding.shape[-1]
    kept, grid = embedding[:, :prefix], embedding[:, prefix:].reshape(*old, width)
    resized = RESIZERS[method](grid, new)
    return torch.cat([kept, resized.reshape(1, -1, width)], dim=1)


def _zoom(grid: Tensor, new: tuple[int, int]) -> Tensor:
    import scipy.ndimage

    factors = (new[0] / grid.shape[0], new[1] / grid.shape[1], 1)
    zoomed = scipy.ndimage.zoom(grid.detach().float().cpu().numpy(), factors, order=1)
    return torch.from_numpy(zoomed).to(grid)


def _interpolate(
    grid: Tensor, new: tuple[int, int], mode: str, *, antialias: bool = False, offset: float = 0
) -> Tensor:
    """torch's interpolation of (rows, columns, width); an `offset` makes the factor (new + offset) / old."""
    channels_first = grid.detach().float().permute(2, 0, 1)[None]
    if offset:
        factors = [(side + offset) / old for side, old in zip(new, grid.shape[:2], strict=True)]
        resized = F.interpolate(channels_first, scale_factor=factors, mode=mode, antialias=antialias)
    else:
        resized = F.interpolate(channels_first, size=new, mode=mode, antialias=antialias, align_corners=False)
    return resized[0].permute(1, 2, 0).to(grid)


RESIZERS: dict[str, Callable[[Tensor, tuple[int, int]], Tensor]] = {
    "zoom": _zoom,
    "bicubic": partial(_interpolate, mode="bicubic", antialias=True),
    "bicubic_plain": partial(_interpolate, mode="bicubic"),
    "bicubic_offset": partial(_interpolate, mode="bicubic", offset=0.1),
    "bilinear_plain": partial(_interpolate, mode="bilinear"),
}
"""The function for each `ResizeMethod`."""
