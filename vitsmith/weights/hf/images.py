"""HF's `preprocessor_config.json`: the preprocessing it stands for."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from vitsmith.fields import Finite, Number, Pixels, Triple
from vitsmith.models.config import show_size
from vitsmith.specs import ImageSpec
from vitsmith.weights.metadata import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD, Metadata, read_metadata

PREPROCESSOR = "preprocessor_config.json"

# PIL.Image.Resampling, by number as in the file.
_FILTERS: dict[int, Any] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}

_HALF = (0.5, 0.5, 0.5)
_CLIP = {
    "size": {"shortest_edge": 224},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": 224,
    "image_mean": CLIP_MEAN,
    "image_std": CLIP_STD,
}
_PROCESSORS: dict[str, dict[str, Any]] = {
    "ViT": {"size": 224, "resample": 2, "image_mean": _HALF, "image_std": _HALF},
    "DeiT": _CLIP | {"size": 256, "image_mean": _HALF, "image_std": _HALF},
    "CLIP": _CLIP,
    "Bit": _CLIP,
    "Siglip": {"size": {"height": 224, "width": 224}, "resample": 3, "image_mean": _HALF, "image_std": _HALF},
    "DINOv3ViT": {"size": 224, "resample": 2, "image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD},
    "Blip": {"size": 384, "resample": 3, "image_mean": CLIP_MEAN, "image_std": CLIP_STD},
    "ChineseCLIP": _CLIP,
}
"""The defaults of transformers' processors that only resize, crop and normalise, without 'ImageProcessor'
(models/*/image_processing_*.py). SigLIP 2 of fixed size names Siglip's, DINOv2 Bit's. Others have rules of their own,
which their files do not show: Levit's enlarges the size that its file tells."""

_BY_SHORTER_EDGE = ("CLIP", "Bit", "Siglip", "ChineseCLIP")  # a plain number as size; for others it is a square
_IN_FLOAT = ("DINOv3ViT",)  # rescales before it resizes

# Other steps, do_pad or do_thumbnail, are not done here; images are always RGB, and labels of segmentation no matter.
_NO_MATTER = ("do_convert_rgb", "do_reduce_labels")

Size = Pixels | dict[str, Pixels]


class HFPreprocessor(Metadata):
    """Fields of transformers' image processors, with the defaults of the one that is named, or of ViTImageProcessor.

    `use_fast` is not among them: fast processors resize uint8 with torch, which gives Pillow's values except for some
    that are a level apart (measured in tests/reference/preprocess/make.py).
    """

    model_config = ConfigDict(extra="allow")

    image_processor_type: str = ""
    feature_extractor_type: str = ""
    do_resize: bool = True
    size: Size = 224
    resample: Annotated[int, Number] = 2
    do_center_crop: bool = False
    crop_size: Size | None = None
    do_rescale: bool = True
    rescale_factor: Annotated[Finite, Field(gt=0)] = 1 / 255
    do_normalize: bool = True
    image_mean: Triple = _HALF
    image_std: Triple = _HALF

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, fields: Any) -> Any:
        """The defaults of its processor; HF too reads null as absent."""
        if not isinstance(fields, dict):
            return fields
        told = {key: _plain(key, value) for key, value in fields.items() if value is not None}
        name = told.get("image_processor_type") or told.get("feature_extractor_type") or ""
        return _PROCESSORS.get(_kind(name) if isinstance(name, str) else "", {}) | told

    @property
    def name(self) -> str:
        """The processor's class, as the file has it; '' when it does not say."""
        return self.image_processor_type or self.feature_extractor_type

    @property
    def kind(self) -> str:
        """The name of a row of `_PROCESSORS`, or of none."""
        return _kind(self.name or "ViT")

    @property
    def edges(self) -> dict[str, int]:
        """`size` as an object: height and width, or shortest_edge, or something else."""
        if isinstance(self.size, int) and self.kind in _BY_SHORTER_EDGE:
            return {"shortest_edge": self.size}
        return _sides(self.size)

    @property
    def squashes(self) -> bool:
        return self.edges.keys() == {"height", "width"}

    @property
    def cut(self) -> dict[str, int] | None:
        """`crop_size` as an object; None without a centre crop."""
        return _sides(self.crop_size) if self.do_center_crop and self.crop_size else None


class _Processor(Metadata):
    """`processor_config.json`, where transformers 5 keeps the parts of a processor of images and texts."""

    image_processor: HFPreprocessor | None = None


def find_preprocessor(folder: Path, usual: Mapping[str, Any]) -> HFPreprocessor | None:
    """The preprocessor that the JSON files of a folder describe; None without one. Raises WeightsError.

    As in transformers, one that does not name its class is of that of `usual`, of the published models of its kind.
    """
    processor = read_metadata(folder / "processor_config.json", _Processor)
    found = processor.image_processor if processor is not None else None
    found = found or read_metadata(folder / PREPROCESSOR, HFPreprocessor)
    if found is None or found.name:
        return found
    named = {"image_processor_type": usual["image_processor_type"]}
    return HFPreprocessor.model_validate(named | found.model_dump(exclude_unset=True))


def hf_images(told: HFPreprocessor, image_size: tuple[int, int]) -> ImageSpec:
    """The ImageSpec of a preprocessor of which nothing is `unfollowed`.

    It is for images of the model's size: the share that a centre crop keeps is the preprocessor's.
    """
    mean, std = _normalization(told)
    in_float = told.kind in _IN_FLOAT and told.do_rescale
    crop = _crop(told)
    assert crop is not None
    return ImageSpec(
        size=image_size,
        resize="squash" if told.squashes else "shorter",
        crop=crop,
        interpolation=_FILTERS[told.resample],
        antialias=True,
        quantize="none" if in_float else "round",
        mean=mean,
        std=std,
        corner="round" if told.squashes and crop == 1.0 else "floor",
    )


def unfollowed(told: HFPreprocessor) -> str:
    """What of a preprocessor an ImageSpec cannot express, as a sentence; '' where it expresses all of it."""
    what = _unknown_step(told) or _unknown_size(told)
    return what and f"{what}, in its {PREPROCESSOR}, cannot be reproduced"


def _unknown_step(told: HFPreprocessor) -> str:
    if told.kind not in _PROCESSORS:
        return f"{told.name}, whose rules are not known"
    if not told.do_resize:
        return "do_resize false"
    if told.resample not in _FILTERS:
        return f"resample {told.resample}"
    steps = {name: value for name, value in (told.model_extra or {}).items() if name.startswith("do_")}
    more = [name for name, value in steps.items() if value and name not in _NO_MATTER]
    return f"{', '.join(more)} true" if more else ""


def _unknown_size(told: HFPreprocessor) -> str:
    if not told.squashes and told.cut is None:
        return f"size {told.edges} without a centre crop (images would keep their shapes)"
    return f"size {told.edges} cropped to {told.cut or told.edges}" if _crop(told) is None else ""


def hf_notes(told: HFPreprocessor, image_size: tuple[int, int], *, asked: bool = False) -> tuple[str, ...]:
    """A note where the size that the preprocessor gives is not that of the model. `asked`: the caller gave that."""
    size = told.cut or told.edges
    given = size.get("height", 0), size.get("width", 0)
    if "height" not in size or given == image_size:
        return ()
    used = f"{show_size(image_size)}, as asked for," if asked else f"the model's size, {show_size(image_size)},"
    return (f"{PREPROCESSOR} says {show_size(given)}; {used} was used",)


def _normalization(told: HFPreprocessor) -> tuple[Triple, Triple]:
    """(mean, std) for (pixel / 255 - mean) / std, where HF computes (pixel * rescale_factor - mean) / std."""
    scale = 255 * told.rescale_factor if told.do_rescale else 255.0
    scale = 1.0 if math.isclose(scale, 1.0) else scale
    mean, std = (told.image_mean, told.image_std) if told.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return (
        (mean[0] / scale, mean[1] / scale, mean[2] / scale),
        (std[0] / scale, std[1] / scale, std[2] / scale),
    )


def _crop(told: HFPreprocessor) -> float | None:
    """The share of what the image is resized to that the centre crop keeps; 1 for an image squashed to its size.

    None for a crop that is larger, where transformers fills with black, or that keeps other shares of both sides.
    """
    size, squash = told.edges, told.squashes
    edges = (size["height"], size["width"]) if squash else (size.get("shortest_edge", 0),) * 2
    cut = told.cut or size
    sides = cut.get("height", 0), cut.get("width", 0)
    inside = all(0 < side <= edge for side, edge in zip(sides, edges, strict=True))
    if inside and (squash or (size.keys() == {"shortest_edge"} and sides[0] == sides[1])):
        crop = _share(sides[0], edges[0])
        if math.floor(sides[1] / crop) == edges[1]:
            return crop
    return None


def _share(side: int, edge: int) -> float:
    """side / edge, or a bit less: floor(side / share) is `edge`, the whole number of pixels that HF resizes to."""
    share = side / edge
    while math.floor(side / share) < edge:
        share = math.nextafter(share, 0)
    return share


def _kind(name: str) -> str:
    return re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", name)


def _sides(size: int | dict[str, int]) -> dict[str, int]:
    return {"height": size, "width": size} if isinstance(size, int) else size


def _plain(key: str, value: Any) -> Any:
    """Other forms that transformers takes: [height, width], sizes with null, one number for all channels."""
    if key in ("size", "crop_size") and isinstance(value, list) and len(value) == 2:
        return {"height": value[0], "width": value[1]}
    if key in ("size", "crop_size") and isinstance(value, dict):
        return {side: pixels for side, pixels in value.items() if pixels is not None}
    if key in ("image_mean", "image_std") and isinstance(value, int | float) and not isinstance(value, bool):
        return [value] * 3
    return value
