"""timm's preprocessing, as its `config.json` describes it."""

from __future__ import annotations

from vitsmith.errors import WeightsError
from vitsmith.models.config import ImageModelConfig, ViTConfig
from vitsmith.specs import ImageSpec
from vitsmith.weights.metadata import IMAGENET_MEAN, IMAGENET_STD
from vitsmith.weights.timm.metadata import TimmMetadata


def timm_images(config: ImageModelConfig, metadata: TimmMetadata | None, source: str) -> ImageSpec:
    """timm's evaluation preprocessing (data/transforms_factory.py, `transforms_imagenet_eval`).

    Without metadata it is that of most timm ViTs and Mixers: it may be wrong (DeiT has another).
    Raises WeightsError for a crop mode that an ImageSpec cannot express.
    """
    if metadata is None:
        crop = 0.875 if config.family == "mixer" else 0.9 if max(config.image_size) <= 224 else 1.0
        if isinstance(config, ViTConfig) and config.distillation_token:  # only DeiT's have one
            return ImageSpec.pillow(config.image_size, crop=crop, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        return ImageSpec.pillow(config.image_size, crop=crop)
    told = metadata.pretrained_cfg
    if told.crop_mode == "border" or (told.crop_mode == "squash" and told.crop_pct != 1.0):
        raise WeightsError(
            f"{source}: crop_mode {told.crop_mode!r} with crop_pct {told.crop_pct:g} in its config.json "
            "cannot be reproduced"
        )
    return ImageSpec.pillow(
        config.image_size,
        crop=told.crop_pct,
        interpolation=told.interpolation,
        mean=told.mean,
        std=told.std,
        resize="squash" if told.crop_mode == "squash" else "shorter",
    )
