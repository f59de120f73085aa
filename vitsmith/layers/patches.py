"""Turn images (or feature maps) into a grid of patch embeddings."""

from __future__ import annotations

from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """(batch, channels, height, width) -> (batch, width, rows, columns).

    Cutting patches and projecting them is one convolution whose stride is its kernel (models_vit.py of the
    original: "We can merge s2d+emb into a single conv; it's the same").
    """

    def __init__(self, channels: int, width: int, patch: tuple[int, int], *, bias: bool = True) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, width, kernel_size=patch, stride=patch, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.projection(images)


def sequence(grid: Tensor) -> Tensor:
    """(batch, width, rows, columns) -> (batch, rows * columns, width), row by row."""
    return grid.flatten(2).transpose(1, 2)
