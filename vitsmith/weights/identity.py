"""What makes the embeddings of two models comparable: the same weights, arithmetic and preprocessing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from vitsmith.json_text import to_json
from vitsmith.models.config import LiTConfig, ModelConfig
from vitsmith.specs import ImageSpec, TextSpec

if TYPE_CHECKING:
    from torch import nn


def state_of(model: nn.Module) -> tuple[int, int] | None:
    """Changes whenever another model is meant, or an optimizer or anyone else wrote to one of its weights.

    None where that cannot be known: tensors that were made under `torch.inference_mode()` do not count their changes.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        return None
    return id(model), sum(parameter._version for parameter in model.parameters())


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over the names, shapes and values of all parameters, whatever file and device they are on."""
    import torch

    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


_TRAINING = {"dropout", "attention_dropout", "stochastic_depth"}
"""Fields of configurations that nothing depends on once a model is trained."""

_LATER: dict[str, Any] = {"merge": (), "head_width": None}
"""Fields that configurations did not have from the start; where unused they do not change a name given before."""


def name_space(weights: str, config: ModelConfig, images: ImageSpec, text: TextSpec | None) -> str:
    """A short hash of everything that decides embeddings: weights, configuration and preprocessing.

    Prompt templates and fast decoding do not change what a vector means. Whether a vocabulary is at hand does not
    either, of images: see `Bundle.text_identity`.
    """
    tower = config.image if isinstance(config, LiTConfig) else config
    later = {name for name, usual in _LATER.items() if getattr(tower, name, usual) == usual}
    left_out: Any = {"image": _TRAINING | later} if isinstance(config, LiTConfig) else _TRAINING | later
    described = {
        "weights": weights,
        "config": config.model_dump(mode="json", exclude=left_out),
        "images": images.model_dump(mode="json", exclude={"scaled_decoding"}),
        "text": text.model_dump(mode="json", exclude={"templates"}) if text is not None else None,
    }
    return hashlib.sha256(to_json(described, sort_keys=True, ascii_only=True).encode()).hexdigest()[:32]
