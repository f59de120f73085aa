"""LiT: "Zero-Shot Transfer with Locked-image text Tuning", arXiv 2111.07991.

B images, T texts, L length, E embedding width. Source: models_lit.py of the original.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vitsmith.errors import InputError
from vitsmith.layers.unit import normalize
from vitsmith.models.config import LiTConfig
from vitsmith.models.text import text_tower
from vitsmith.models.vit import VisionTransformer


class LiT(nn.Module):
    """An image tower and a text tower that meet in one space of E dimensions."""

    def __init__(self, config: LiTConfig) -> None:
        super().__init__()
        self.config = config
        self.image = VisionTransformer(config.image)
        self.text = text_tower(config.text)
        self.log_temperature = nn.Parameter(torch.zeros(1))
        self.logit_bias = nn.Parameter(torch.zeros(1)) if config.bias else None

    @property
    def temperature(self) -> Tensor:
        """The factor of the cosine similarities before the softmax, shape (1,)."""
        return self.log_temperature.exp()

    def encode_image(self, images: Tensor) -> Tensor:
        """(B, 3, height, width) in [-1, 1] -> unit vectors (B, E)."""
        return normalize(self.image(images))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Token ids (T, L) -> unit vectors (T, E)."""
        return normalize(self.text(tokens))

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits (B, T): temperature times the cosine similarity of each image with each text, and the bias if any.

        Raises InputError for images alone: they have embeddings, and no logits.
        """
        if tokens is None:
            raise InputError(
                "this model compares images with texts: give it both, model(images, tokens), or embed one of them, "
                "model.encode_image(images)"
            )
        logits = self.temperature * self.encode_image(images) @ self.encode_text(tokens).T
        return logits if self.logit_bias is None else logits + self.logit_bias
