"""open_clip's preprocessing: `preprocess_cfg` in its `open_clip_config.json`."""

from __future__ import annotations

from typing import Literal

from vitsmith.fields import Finite, Level, Pixels, Triple
from vitsmith.specs import ImageSpec
from vitsmith.weights.metadata import CLIP_MEAN, CLIP_STD, Metadata

_RESIZES: dict[str, Literal["squash", "shorter", "longer"]] = {
    "shortest": "shorter",
    "squash": "squash",
    "longest": "longer",
}


class OpenClipPreprocessing(Metadata):
    """Fields and defaults of open_clip's PreprocessCfg (open_clip/transform.py)."""

    size: Pixels | tuple[Pixels, Pixels] = 224
    mode: Literal["RGB"] = "RGB"
    mean: Finite | Triple = CLIP_MEAN
    std: Finite | Triple = CLIP_STD
    interpolation: Literal["bicubic", "bilinear", "random"] = "bicubic"
    resize_mode: Literal["shortest", "squash", "longest"] = "shortest"
    fill_color: Level = 0


def open_clip_images(told: OpenClipPreprocessing, image_size: tuple[int, int]) -> ImageSpec:
    """The ImageSpec of `image_transform(is_train=False)` for images of the model's size, which open_clip too takes.

    The defaults are also OpenAI's own transform (clip/clip.py). open_clip converts to RGB after resizing, which shows
    in images with a palette or transparency only.
    """
    bilinear = told.interpolation == "bilinear"  # 'random' is for training, and bicubic otherwise
    if told.resize_mode == "shortest" and image_size[0] != image_size[1]:
        bilinear = False  # ResizeKeepRatio is called without the interpolation there
    return ImageSpec(
        size=image_size,
        resize=_RESIZES[told.resize_mode],
        interpolation="bilinear" if bilinear else "bicubic",
        antialias=True,
        quantize="round",
        mean=_triple(told.mean),
        std=_triple(told.std),
        fill=(told.fill_color,) * 3 if told.resize_mode == "longest" else (0, 0, 0),
    )


def _triple(value: float | Triple) -> Triple:
    return value if isinstance(value, tuple) else (value, value, value)
