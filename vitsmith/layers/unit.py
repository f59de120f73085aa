"""Features of length 1, as models with two towers compare them."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class UnitFeatures(nn.Module):
    """(..., features) -> (..., width), rows of length 1 in the type of the features, after a projection if any."""

    def __init__(self, features: int, width: int | None, *, bias: bool) -> None:
        super().__init__()
        self.projection: nn.Module = nn.Identity() if width is None else nn.Linear(features, width, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        return normalize(self.projection(features)).to(features.dtype)


def normalize(embeddings: Tensor) -> Tensor:
    """Rows of unit length, in float32 or better; 1e-8 is added to the norm (not a lower bound), as in the original."""
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    norms = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    return embeddings / (norms + 1e-8)
