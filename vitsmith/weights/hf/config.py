"""The configuration that an HF ViT's `config.json` and arrays stand for."""

from __future__ import annotations

from typing import Any

from vitsmith.errors import WeightsError, shown
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import parse_config
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.hf.metadata import HFConfig
from vitsmith.weights.hf.names import PATCHES, prefix_of
from vitsmith.weights.unsupported import check_channels, refuse_unsupported

_GELUS = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}


def infer_hf_config(file: ArrayFile, metadata: HFConfig) -> ViTConfig:
    """The configuration of a ViTForImageClassification, or of a bare ViTModel, which has no classes.

    A bare model's pooler, a linear layer and tanh, is our `representation`. Raises WeightsError for what our models do
    not have, naming it.
    """
    if metadata.model_type != "vit":
        raise WeightsError(f"{file.path}: model_type {metadata.model_type!r} is not supported, only 'vit' is")
    other = [name for name in metadata.architectures if not name.startswith("ViT")]
    if other:
        raise WeightsError(
            f"{file.path}: architecture {shown(other[0])} in its config.json is not supported, only ViT is"
        )
    refuse_unsupported(file)
    for field, supported in (("qkv_bias", True), ("num_channels", 3), ("pooler_act", "tanh")):
        if getattr(metadata, field) != supported:
            raise WeightsError(
                f"{file.path}: {field} {getattr(metadata, field)!r} is not supported, only {supported!r} is"
            )
    if metadata.hidden_act not in _GELUS:
        raise WeightsError(
            f"{file.path}: activation {metadata.hidden_act!r} is not supported, known are {', '.join(_GELUS)}"
        )
    prefix = prefix_of(set(file.shapes))
    check_channels(file, f"{prefix}{PATCHES}")
    pooler = file.shapes.get(f"{prefix}pooler.dense.weight")
    config: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": metadata.hidden_size,
            "depth": metadata.num_hidden_layers,
            "heads": metadata.num_attention_heads,
            "mlp_width": metadata.intermediate_size,
            "patch": _pair(metadata.patch_size),
            "image_size": _pair(metadata.image_size),
            "classes": file.shapes["classifier.weight"][0] if "classifier.weight" in file.shapes else 0,
            "representation": pooler[0] if pooler and "classifier.weight" not in file.shapes else None,
            "gelu": _GELUS[metadata.hidden_act],
            "norm_eps": metadata.layer_norm_eps,
        }
    )
    return config


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
