"""timm's preprocessing, as its `config.json` describes it."""

from __future__ import annotations

from typing import Any, Literal

from vitsmith.models.config import ImageModelConfig, ViTConfig
from vitsmith.specs import ImageSpec
from vitsmith.weights.metadata import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD
from vitsmith.weights.timm.metadata import TimmMetadata

# "crop_mode" -> `resize`; each crops the centre if crop_pct is below 1.
_RESIZES: dict[str, Literal["squash", "shorter", "longer"]] = {
    "center": "shorter",
    "squash": "squash",
    "border": "longer",
}
_FILTERS: dict[str, Any] = {name: name for name in ("bilinear", "bicubic", "lanczos")}


def unfollowed(metadata: TimmMetadata | None) -> str:
    """What of `config.json`'s preprocessing an ImageSpec cannot express, as a sentence; '' where it expresses all."""
    told = metadata.pretrained_cfg if metadata else None
    if told is None:
        return ""
    wrong = [] if told.crop_mode in _RESIZES else [f"crop_mode {told.crop_mode!r}"]
    wrong += [] if told.interpolation in _FILTERS else [f"interpolation {told.interpolation!r}"]
    wrong += [] if told.crop_pct <= 1 else [f"crop_pct {told.crop_pct:g}, which fills with black"]
    return f"{' and '.join(wrong)}, in its config.json, cannot be reproduced" if wrong else ""


def timm_images(config: ImageModelConfig, metadata: TimmMetadata | None) -> ImageSpec:
    """timm's evaluation preprocessing (data/transforms_factory.py, `transforms_imagenet_eval`).

    Without metadata it is that of most timm ViTs and Mixers: it may be wrong (DeiT has another).
    """
    if metadata is None:
        crop = 0.875 if config.family == "mixer" else 0.9 if max(config.image_size) <= 224 else 1.0
        if isinstance(config, ViTConfig) and config.distillation_token:  # only DeiT's have one
            return ImageSpec.pillow(config.image_size, crop=crop, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        if isinstance(config, ViTConfig) and config.norm_before:  # only CLIP's
            return ImageSpec.pillow(config.image_size, crop=crop, mean=CLIP_MEAN, std=CLIP_STD)
        return ImageSpec.pillow(config.image_size, crop=crop)
    told = metadata.pretrained_cfg
    red, green, blue = (round(255 * value) for value in told.mean)
    return ImageSpec(
        size=config.image_size,
        resize=_RESIZES[told.crop_mode],
        crop=told.crop_pct,
        interpolation=_FILTERS[told.interpolation],
        antialias=True,
        quantize="round",
        mean=told.mean,
        std=told.std,
        fill=(red, green, blue) if told.crop_mode == "border" else (0, 0, 0),
    )
