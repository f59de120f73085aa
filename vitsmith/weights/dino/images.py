"""The preprocessing of DINOv2 and DINOv3, which their files do not hold."""

from __future__ import annotations

from pathlib import Path

from vitsmith.fields import Triple
from vitsmith.models.config import ViTConfig
from vitsmith.specs import ImageSpec
from vitsmith.weights.metadata import IMAGENET_MEAN, IMAGENET_STD

STATISTICS: dict[str, tuple[Triple, Triple]] = {
    "sat493m": ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143)),
    "": (IMAGENET_MEAN, IMAGENET_STD),
}
"""Mean and standard deviation by what the published file's name contains (README of facebookresearch/dinov3)."""


def dino_images(config: ViTConfig, path: Path) -> ImageSpec:
    """DINOv2: shorter side to 256 for 224 pixels, bicubic, centre crop; DINOv3: squash, bilinear."""
    mean, std = next(found for part, found in STATISTICS.items() if part in path.name.lower())
    if config.position_embedding.rotary:
        return ImageSpec.pillow(config.image_size, resize="squash", interpolation="bilinear", mean=mean, std=std)
    return ImageSpec.pillow(config.image_size, crop=224 / 256, mean=mean, std=std)
