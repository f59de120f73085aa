"""What makes the embeddings of two models comparable: the same weights, read through the same preprocessing."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from vitsmith.specs import ImageSpec, TextSpec

if TYPE_CHECKING:
    from torch import nn


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all parameters, whatever file and device they are on."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def name_space(weights: str, images: ImageSpec, text: TextSpec | None) -> str:
    """A short hash of weights and preprocessing.

    Prompt templates and fast decoding do not change what a vector means.
    Whether the vocabulary was at hand does not either: a search by image alone needs none.
    """
    described = {
        "weights": weights,
        "images": images.model_dump(mode="json", exclude={"scaled_decoding"}),
        "text": text.model_dump(mode="json", exclude={"templates"}) if text is not None else None,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
