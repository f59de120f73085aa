"""HF's `preprocessor_config.json`: the preprocessing it stands for."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from vitsmith.errors import WeightsError
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
}
"""The defaults of transformers' processors that only resize, crop and normalise, without 'ImageProcessor'
(models/*/image_processing_*.py). SigLIP 2 of fixed size names Siglip's, DINOv2 Bit's."""

_BY_SHORTER_EDGE = ("CLIP", "Bit", "Siglip")  # what a plain number as size means; for others it is a square
_IN_FLOAT = ("DINOv3ViT",)  # rescales before it resizes

# Processors that are not known have other defaults and perhaps other rules: their files must say these themselves.
_DECISIVE = ("size", "resample", "image_mean", "image_std", "do_center_crop")

# Other steps, do_pad or do_thumbnail, are not done here; images are always RGB, and labels of segmentation no matter.
_NO_MATTER = ("do_convert_rgb", "do_reduce_labels")


class HFPreprocessor(Metadata):
    """Fields of transformers' image processors, with the defaults of the one that is named, or of ViTImageProcessor.

    `use_fast` is not among them: fast processors resize uint8 with torch, which gives Pillow's values except for some
    that are a level apart (measured in tests/reference/preprocess/make.py).
    """

    model_config = ConfigDict(extra="allow")

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
    image_mean: Triple = _HALF
    image_std: Triple = _HALF

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, fields: Any) -> Any:
        """The defaults of its processor; HF too reads null as absent."""
        if not isinstance(fields, dict):
            return fields
        told = {key: value for key, value in fields.items() if value is not None}
        name = told.get("image_processor_type") or told.get("feature_extractor_type") or "ViT"
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


def find_preprocessor(folder: Path) -> HFPreprocessor | None:
    """The preprocessor that the JSON files of a folder describe; None without one. Raises WeightsError."""
    processor = read_metadata(folder / "processor_config.json", _Processor)
    if processor is not None and processor.image_processor is not None:
        return processor.image_processor
    return read_metadata(folder / PREPROCESSOR, HFPreprocessor)


def hf_images(preprocessor: HFPreprocessor | None, image_size: tuple[int, int], source: str) -> ImageSpec:
    """The ImageSpec of a preprocessor; of ViTImageProcessor's defaults when there is none.

    It is for images of the model's size: the share that a centre crop keeps is the preprocessor's.
    Raises WeightsError for what an ImageSpec cannot express.
    """
    told = preprocessor or HFPreprocessor()
    _check(told, source)
    mean, std = _normalization(told)
    squash = told.squashes
    in_float = told.kind in _IN_FLOAT and told.do_rescale
    crop = _crop(told, image_size, source)
    return ImageSpec(
        size=image_size,
        resize="squash" if squash else "shorter",
        crop=crop,
        interpolation=_FILTERS[told.resample],
        antialias=True,
        quantize="none" if in_float else "round",
        mean=mean,
        std=std,
        corner="round" if squash and crop == 1.0 else "floor",
    )


def hf_notes(preprocessor: HFPreprocessor | None, image_size: tuple[int, int]) -> tuple[str, ...]:
    """Notes on what was assumed, for the user to check."""
    if preprocessor is None:
        return ("preprocessing was assumed, there is no preprocessor_config.json: squash, bilinear, mean and std 0.5",)
    size = preprocessor.cut or preprocessor.edges
    given = size.get("height", 0), size.get("width", 0)
    if "height" not in size or given == image_size:
        return ()
    return (f"preprocessor_config.json says {show_size(given)}; the model's size, {show_size(image_size)}, was used",)


def _check(told: HFPreprocessor, source: str) -> None:
    unsaid = [field for field in _DECISIVE if field not in told.model_fields_set]
    known = told.kind in _PROCESSORS
    if unsaid and not known:
        raise _irreproducible(source, f"{told.name} without {', '.join(unsaid)}")
    if isinstance(told.size, int) and not known:
        raise _irreproducible(source, f"size {told.size}, a square or the shorter edge")
    if not told.do_resize:
        raise _irreproducible(source, "do_resize false")
    if told.resample not in _FILTERS:
        raise _irreproducible(source, f"resample {told.resample}")
    steps = {name: value for name, value in (told.model_extra or {}).items() if name.startswith("do_")}
    more = [name for name, value in steps.items() if value and name not in _NO_MATTER]
    if more:
        raise _irreproducible(source, f"{', '.join(more)} true")


def _normalization(told: HFPreprocessor) -> tuple[Triple, Triple]:
    """(mean, std) for (pixel / 255 - mean) / std, where HF computes (pixel * rescale_factor - mean) / std."""
    scale = 255 * told.rescale_factor if told.do_rescale else 255.0
    scale = 1.0 if math.isclose(scale, 1.0) else scale
    mean, std = (told.image_mean, told.image_std) if told.do_normalize else ((0.0,) * 3, (1.0,) * 3)
    return (
        (mean[0] / scale, mean[1] / scale, mean[2] / scale),
        (std[0] / scale, std[1] / scale, std[2] / scale),
    )


def _crop(told: HFPreprocessor, image_size: tuple[int, int], source: str) -> float:
    """The share of what the image is resized to that the centre crop keeps; 1 for an image squashed to its size."""
    size, squash = told.edges, told.squashes
    if not squash and told.cut is None:
        raise _irreproducible(source, f"size {size} without a centre crop (images would keep their shapes)")
    edges = (size["height"], size["width"]) if squash else (size.get("shortest_edge", 0),) * 2
    cut = told.cut or size
    sides = cut.get("height", 0), cut.get("width", 0)
    inside = all(0 < side <= edge for side, edge in zip(sides, edges, strict=True))
    if inside and (squash or (size.keys() == {"shortest_edge"} and sides[0] == sides[1])):
        crop = _share(sides[0], edges[0])
        if math.floor(sides[1] / crop) == edges[1]:
            return crop
    raise _irreproducible(source, f"size {size} cropped to {cut}")


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


def _irreproducible(source: str, what: str) -> WeightsError:
    return WeightsError(f"{source}: {what}, in its preprocessor_config.json, cannot be reproduced")
