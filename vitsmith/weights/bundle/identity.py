"""What makes the embeddings of two models comparable: the same weights, arithmetic and preprocessing."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from vitsmith.fields import Frozen
from vitsmith.json_text import to_json
from vitsmith.models.config import ModelConfig
from vitsmith.specs import ImageSpec
from vitsmith.text_spec import TextSpec

if TYPE_CHECKING:
    from torch import nn


def state_of(model: nn.Module) -> tuple[int, int] | None:
    """Numbers that change if it is another model, or if an optimizer or anything else wrote to one of its weights.

    None if that cannot be known: tensors that were made under `torch.inference_mode()` do not count their changes.
    """
    if any(parameter.is_inference() for parameter in model.parameters()):
        return None
    return id(model), sum(parameter._version for parameter in model.parameters())


_SIZES = ("width", "depth", "heads", "mlp_width")
_FIRST: dict[str, tuple[str, ...]] = {
    "ViTConfig": (
        *("family", *_SIZES, "patch", "image_size", "classes", "pooling", "class_token", "distillation_token"),
        *("representation", "resnet", "gelu", "norm_eps", "norm_after_pooling"),
        *("dropout", "attention_dropout", "stochastic_depth"),
    ),
    "ResNetConfig": ("stages", "width_factor"),
    "PositionEmbeddingConfig": ("learned",),
    "RotaryConfig": ("base", "places", "first", "start", "reference", "bfloat16"),
    "BlockConfig": (),
    "AttentionPoolConfig": ("heads", "mlp_width"),
    "UnitConfig": ("width", "bias"),
    "MixerConfig": (
        *("family", "width", "depth", "tokens_mlp_width", "channels_mlp_width", "patch", "image_size", "classes"),
        *("gelu", "norm_eps", "dropout", "stochastic_depth"),
    ),
    "BertConfig": (*("kind", *_SIZES, "vocabulary", "positions", "segments", "length", "classes", "gelu", "norm_eps"),),
    "TextTransformerConfig": ("kind", *_SIZES, "vocabulary", "length", "classes", "gelu", "norm_eps"),
    "LiTConfig": ("family", "image", "text", "bias"),
    "ImageSpec": ("size", "resize", "crop", "interpolation", "antialias", "quantize", "mean", "std", "scaled_decoding"),
    "ProgramSpec": ("precision", "rest", "batch", "pixels"),
    "StoredProgram": ("program", "spec", "folder"),
    "Labels": ("names",),
    "Similarity": ("temperature", "bias"),
    "Calibration": ("temperature", "thresholds", "data"),
    "Provenance": (
        *("source", "kind", "sha256", "parent", "origin", "revision", "license", "date", "vitsmith", "notes"),
    ),
    "Publication": ("origin", "revision", "license"),
    "Measurement": (
        *("metric", "value", "unit", "engine", "program", "precision", "batch", "data", "machine", "date", "low"),
        "high",
    ),
    "TextSpec": ("tokenizer", "length", "vocabulary", "lower_case", "canonicalize", "padding", "pooling", "templates"),
}
"""The fields of each description that are always written down and, where they have a meaning, always hashed.

A field that came later counts only if it is not at its default. So a new part of a model, or a new way to preprocess,
changes no earlier identity, and files that do not use it can be read by older versions.
"""
_WITHOUT_MEANING = {"dropout", "attention_dropout", "stochastic_depth", "scaled_decoding", "templates", "reserved"}
"""Fields that do not change what a vector means: nothing depends on dropout once a model is trained, prompt templates
are words, texts with reserved words have no vector, and fast decoding is an approximation of the same."""


def canonical(described: Frozen) -> dict[str, Any]:
    """A description as plain data for JSON, whatever fields later versions have added."""
    first = _FIRST[type(described).__name__]
    plain = described.model_dump(mode="json")
    fields: dict[str, Any] = {}
    for name, field in type(described).model_fields.items():
        value = getattr(described, name)
        if name in first or value != field.default:
            fields[name] = canonical(value) if isinstance(value, Frozen) else plain[name]
    return fields


def _meaning(described: Frozen) -> dict[str, Any]:
    """The part of `canonical` that decides what a vector means."""

    def kept(fields: dict[str, Any]) -> dict[str, Any]:
        return {
            name: kept(value) if isinstance(value, dict) else value
            for name, value in fields.items()
            if name not in _WITHOUT_MEANING
        }

    return kept(canonical(described))


def name_space(weights: str, config: ModelConfig, preprocessing: ImageSpec, text: TextSpec | None) -> str:
    """A short hash of everything that decides embeddings: weights, configuration and preprocessing.

    The vocabulary does not change it; for embeddings of texts see `Bundle.text_identity`.
    """
    described = {
        "weights": weights,
        "config": _meaning(config),
        "images": _meaning(preprocessing),
        "text": _meaning(text) if text is not None else None,
    }
    return hashlib.sha256(to_json(described, sort_keys=True, ascii_only=True).encode()).hexdigest()[:32]
