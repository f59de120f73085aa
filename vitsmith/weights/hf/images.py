"""HF's `preprocessor_config.json`: the preprocessing it stands for."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field

from vitsmith.errors import WeightsError
from vitsmith.fields import Finite, Number, Pixels, Triple
from vitsmith.models.config import show_size
from vitsmith.specs import ImageSpec
from vitsmith.weights.metadata import Metadata

# PIL.Image.Resampling, by number as in the file.
_FILTERS: dict[int, Any] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}

# Other processors have other defaults, so their files must say these themselves.
_DECISIVE = ("size", "resample", "image_mean", "image_std", "do_center_crop")


class HFPreprocessor(Metadata):
    """Fields and defaults of transformers' ViTImageProcessor (models/vit/image_processing_vit.py)."""

    image_processor_type: str = ""
    feature_extractor_type: str = ""
    do_resize: bool = True
    size: Pixels | dict[str, Pixels] = 224
    resample: Annotated[int, Number] = 2
    do_center_crop: bool = False
    crop_size: Pixels | dict[str, Pixels] | None = None
    do_rescale: bool = True
    rescale_factor: Annotated[Finite, Field(gt=0)] = 1 / 255
    do_normalize: bool = True
    image_mean: Triple = (0.5, 0.5, 0.5)
    image_std: Triple = (0.5, 0.5, 0.5)

    @property
    def made_for_vit(self) -> bool:
        name = self.image_processor_type or self.feature_extractor_type
        return not name or name.startswith("ViT")


def hf_images(preprocessor: HFPreprocessor | None, image_size: tuple[int, int], source: str) -> ImageSpec:
    """The ImageSpec of a preprocessor; of ViTImageProcessor's defaults when there is none.

    HF cuts its centre crop at floor(margin / 2), an ImageSpec at round(margin / 2): they may lie one pixel apart.
    Raises WeightsError for what an ImageSpec cannot express.
    """
    told = preprocessor or HFPreprocessor()
    unsaid = [field for field in _DECISIVE if field not in told.model_fields_set]
    if unsaid and not told.made_for_vit:
        kind = told.image_processor_type or told.feature_extractor_type
        raise _irreproducible(source, f"{kind} without {', '.join(unsaid)}")
    if isinstance(told.size, int) and not told.made_for_vit:
        raise _irreproducible(source, f"size {told.size}, a square or the shorter edge")
    if not told.do_resize:
        raise _irreproducible(source, "do_resize false")
    if told.resample not in _FILTERS:
        raise _irreproducible(source, f"resample {told.resample}")
    mean, std = _normalization(told)
    crop = _crop(told, image_size, source)
    return ImageSpec.pillow(
        image_size,
        crop=crop or 1.0,
        interpolation=_FILTERS[told.resample],
        mean=mean,
        std=std,
        resize="squash" if crop is None else "shorter",
    )


def hf_notes(preprocessor: HFPreprocessor | None, image_size: tuple[int, int]) -> tuple[str, ...]:
    """Notes on what was assumed, for the user to check."""
    if preprocessor is None:
        return ("preprocessing was assumed, there is no preprocessor_config.json: squash, bilinear, mean and std 0.5",)
    size = _sides(preprocessor.size)
    given = size.get("height", 0), size.get("width", 0)
    if "height" not in size or given == image_size:
        return ()
    return (f"preprocessor_config.json says {show_size(given)}; the model's size, {show_size(image_size)}, was used",)


def _normalization(told: HFPreprocessor) -> tuple[Triple, Triple]:
    """(mean, std) for (pixel / 255 - mean) / std, where HF computes (pixel * rescale_factor - mean) / std."""
    scale = 255 * told.rescale_factor if told.do_rescale else 255.0
    scale = 1.0 if math.isclose(scale, 1.0) else scale
    mean, std = (told.image_mean, told.image_std) if told.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return (
        (mean[0] / scale, mean[1] / scale, mean[2] / scale),
        (std[0] / scale, std[1] / scale, std[2] / scale),
    )


def _crop(told: HFPreprocessor, image_size: tuple[int, int], source: str) -> float | None:
    """The crop of resize='shorter', or None for 'squash'."""
    size = _sides(told.size)
    cut = _sides(told.crop_size) if told.do_center_crop and told.crop_size else None
    if size.keys() == {"height", "width"} and cut in (None, size):
        return None
    cut = cut or {"height": image_size[0], "width": image_size[1]}
    side, edge = cut.get("height", 0), size.get("shortest_edge", 0)
    if size.keys() != {"shortest_edge"} or cut != {"height": side, "width": side} or side > edge:
        raise _irreproducible(source, f"size {size} cropped to {cut}")
    crop = side / edge
    # The division must come back to the whole number of pixels that HF resizes to.
    while math.floor(side / crop) < edge:
        crop = math.nextafter(crop, 0)
    return crop


def _sides(size: int | dict[str, int]) -> dict[str, int]:
    return {"height": size, "width": size} if isinstance(size, int) else size


def _irreproducible(source: str, what: str) -> WeightsError:
    return WeightsError(f"{source}: {what}, in its preprocessor_config.json, cannot be reproduced")
