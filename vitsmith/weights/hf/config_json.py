"""HF's `config.json`: the model type that it names, and the fields of that type."""

from __future__ import annotations

from pathlib import Path

from vitsmith.errors import WeightsError, shown
from vitsmith.weights.hf.model_types import (
    DeiTConfig,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ViTConfig,
    HFConfig,
    ViTMAEConfig,
)
from vitsmith.weights.hf.two_tower_types import (
    CLIPConfig,
    CLIPVisionConfig,
    MetaClip2Config,
    MetaClip2VisionConfig,
    SiglipConfig,
    SiglipVisionConfig,
    TwoTowerConfig,
)
from vitsmith.weights.metadata import Metadata, read_metadata

MODEL_TYPES: dict[str, type[HFConfig | TwoTowerConfig]] = {
    "vit": HFConfig,
    "deit": DeiTConfig,
    "vit_mae": ViTMAEConfig,
    "dinov2": Dinov2Config,
    "dinov2_with_registers": Dinov2WithRegistersConfig,
    "dinov3_vit": DINOv3ViTConfig,
    "clip": CLIPConfig,
    "clip_vision_model": CLIPVisionConfig,
    "metaclip_2": MetaClip2Config,
    "metaclip_2_vision_model": MetaClip2VisionConfig,
    "siglip": SiglipConfig,
    "siglip_vision_model": SiglipVisionConfig,
}
"""The fields of each `model_type` that is read."""

_NAFLEX = "SigLIP 2 NaFlex, whose images keep their shape; SigLIP 2 of a fixed size is read"
_TEXT_ALONE = "a text tower alone; vitsmith reads it in the model that has its image tower too"
_OTHERS = {
    "siglip2": _NAFLEX,
    "siglip2_vision_model": _NAFLEX,
    **dict.fromkeys(
        (f"{name}_text_model" for name in ("clip", "metaclip_2", "siglip", "siglip2", "chinese_clip", "altclip")),
        _TEXT_ALONE,
    ),
}
"""What model types are that are not read."""


def unread_type(name: str) -> str:
    """The reason why models of a `model_type` are not read; '' for one that is."""
    if name in MODEL_TYPES:
        return ""
    why = f": it is {_OTHERS[name]}" if name in _OTHERS else f", known are {', '.join(MODEL_TYPES)}"
    return f"model_type {shown(name)} is not supported{why}"


class _ModelType(Metadata):
    model_type: str = "vit"


def read_hf_config(weights: Path) -> HFConfig | TwoTowerConfig:
    """The `config.json` beside a file of weights. Raises WeightsError when it is missing, wrong, or of another type."""
    path = weights.with_name("config.json")
    found = read_metadata(path, _ModelType)
    kind = MODEL_TYPES.get(found.model_type) if found else HFConfig
    if found and kind is None:
        raise WeightsError(f"{weights}: {unread_type(found.model_type)}")
    config = read_metadata(path, kind or HFConfig)
    if config is None:
        raise WeightsError(
            f"{weights}: an HF model needs its config.json beside it: heads, GELU and LayerNorm eps are only there"
        )
    return config
