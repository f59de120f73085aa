"""The matrix products of an image tower with its weights, and nothing else: the least that any program must compute.

A program that computes more than these, on the same kernels, cannot be faster: the speed of the products alone is what
a better conversion of the same model could reach at most.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class ProductsAlone(nn.Module):
    """The patch embedding and the linear layers in the blocks of a tower of timm, one after the other.

    There are no attention, norms, activations or residuals, and no pooling or head behind the blocks. All products have
    the shapes that they have in the tower: of queries, keys and values, the queries alone go on to the next product.
    Weights are random, of a scale that keeps values near 1.
    """

    def __init__(self, tower: nn.Module, image: tuple[int, int, int] = (3, 224, 224)) -> None:
        super().__init__()
        found = cast(Any, tower)
        self.patches = _like(found.patch_embed.proj)
        self.linears = nn.ModuleList(_like(one) for one in found.blocks.modules() if isinstance(one, nn.Linear))
        with torch.inference_mode():
            tokens: int = found.forward_features(torch.zeros(1, *image)).shape[1]
            of_patches = self.patches(torch.zeros(1, *image)).flatten(2).shape[-1]
        self.register_buffer("prefix", torch.ones(1, tokens - of_patches, self.patches.out_channels))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, 3, height, width) -> (batch, width)."""
        x = self.patches(images).flatten(2).transpose(1, 2)
        prefix = cast(Tensor, self.prefix)
        if prefix.shape[1]:  # OpenVINO 2026.4 dies of a division by zero where nothing is joined
            x = torch.cat([prefix.expand(images.shape[0], -1, -1), x], dim=1)
        for linear in self.linears:
            x = linear(x[..., : cast(nn.Linear, linear).in_features])
        return x[:, 0]


def _like(layer: Any) -> Any:
    """A layer of the same shape, with new weights, which keeps the variance of its inputs."""
    if isinstance(layer, nn.Conv2d):
        new: Any = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride)  # type: ignore[arg-type]
    else:
        new = nn.Linear(layer.in_features, layer.out_features)
    with torch.no_grad():
        new.weight.normal_(std=new.weight[0].numel() ** -0.5)
        new.bias.zero_()
    return new.eval().requires_grad_(False)
