"""Frozen descriptions that travel with a model: preprocessing of images and texts, names of classes, programs.

Nothing here imports torch, so that `inspect`, the serving front end and the tests of a description are light.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from vitsmith.errors import BundleError
from vitsmith.fields import AS_FOUND, Finite, Frozen, Level, Pixels, PositiveInt, Share, Triple
from vitsmith.names import can_be_written, tell_apart, wrong_name


class ImageSpec(Frozen):
    """The preprocessing of an RGB image: resize, crop, quantise, normalise.

    The input is uint8 RGB of any size, the output float32 of shape (3, height, width):
    `(pixel / 255 - mean) / std`.
    """

    size: tuple[Pixels, Pixels] = Field(description="(height, width) of the model's input, in pixels")
    resize: Literal["squash", "shorter", "longer"] = Field(
        "squash",
        description="'squash' ignores the aspect ratio; 'shorter' keeps it and crops the centre; 'longer' keeps it and "
        "the whole image, and fills what it leaves free",
    )
    crop: Finite = Field(
        1.0, gt=0, le=1, description="side of the centre crop as a share of what the image is resized to"
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = Field(
        False,
        description="False: two-tap bilinear, as tf.image.resize; True: filters that widen to shrink, Pillow's with "
        "quantize 'round', torch's in float32 with 'none'",
    )
    quantize: Literal["none", "truncate", "round"] = Field(
        "none", description="resized pixels are kept as float ('none'), truncated to uint8, or rounded to uint8"
    )
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    scaled_decoding: bool = Field(
        False,
        description="JPEGs much larger than needed may be decoded at a fraction of their size: faster, approximate",
    )
    corner: Literal["round", "floor"] = Field(
        "round",
        description="antialias only: the crop's corner where half a pixel is over, to the even one as torchvision and "
        "timm, or down as HF; two taps always take it down",
    )
    fill: tuple[Level, Level, Level] = Field(
        (0, 0, 0), description="with 'longer': the colour, 0..255, around the image"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.antialias and self.quantize == "truncate":
            raise ValueError(
                "antialias=True resizes with Pillow, which rounds (quantize='round'), or in float ('none')"
            )
        if not self.antialias and self.interpolation != "bilinear":
            raise ValueError(f"interpolation={self.interpolation!r} needs antialias=True")
        if self.antialias and self.quantize == "none" and self.interpolation == "lanczos":
            raise ValueError("interpolation='lanczos' is Pillow's: set quantize='round'")
        if not self.antialias and self.crop != 1.0 and self.resize == "squash":
            raise ValueError("crop with resize='squash' needs antialias=True; without, 'squash' uses the whole image")
        if not self.antialias and (self.resize == "longer" or self.corner != "round"):
            raise ValueError("resize='longer' and corner='floor' need antialias=True")
        if self.resize != "longer" and self.fill != (0, 0, 0):
            raise ValueError(f"fill is for resize='longer'; {self.resize!r} leaves nothing free")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        return self

    @classmethod
    def original(cls, size: int | tuple[int, int]) -> Self:
        """Evaluation preprocessing of the original fine-tuning code (vit_jax/input_pipeline.py): squash, [-1, 1]."""
        return cls(size=_pair(size))

    @classmethod
    def lit(cls, size: int | tuple[int, int], *, crop: bool = False) -> Self:
        """Preprocessing of the LiT models (vit_jax/preprocess.py): as the original, truncated to uint8 in between."""
        return cls(size=_pair(size), quantize="truncate", resize="shorter" if crop else "squash")

    @classmethod
    def pillow(
        cls,
        size: int | tuple[int, int],
        *,
        crop: float = 0.9,
        interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bicubic",
        mean: Triple = (0.5, 0.5, 0.5),
        std: Triple = (0.5, 0.5, 0.5),
        resize: Literal["squash", "shorter"] = "shorter",
        scaled_decoding: bool = False,
    ) -> Self:
        """The recipe of timm, torchvision, CLIP and HF: Pillow resize with antialiasing, centre crop, mean and std.

        `crop` is for 'shorter'.
        """
        return cls(
            size=_pair(size),
            resize=resize,
            crop=crop if resize == "shorter" else 1.0,
            interpolation=interpolation,
            antialias=True,
            quantize="round",
            mean=mean,
            std=std,
            scaled_decoding=scaled_decoding,
        )


Program = Literal["torch", "onnx", "openvino", "executorch"]
"""The kind of a model's file: weights for torch, or a program for a runtime."""


class ProgramSpec(Frozen):
    """The precision and the inputs of a compiled program; torch weights have the defaults."""

    precision: Literal["fp32", "fp16", "bf16", "int8"] = Field(
        "fp32", description="precision of the products; 'fp16' keeps LayerNorm and softmax in float32"
    )
    rest: Literal["fp32", "bf16"] = Field("fp32", description="with int8: precision of all that is not quantised")
    batch: Annotated[PositiveInt, Field(le=65_536)] | None = Field(
        None, description="the only batch size that it runs; None: any"
    )
    pixels: bool = Field(
        False, description="takes uint8 (batch, height, width, 3) of the model's size and normalises it"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rest != "fp32" and self.precision != "int8":
            raise ValueError(f"rest={self.rest!r} is only for int8, and this program is in {self.precision}")
        return self

    @property
    def arithmetic(self) -> str:
        """Precision in words: 'fp32', 'bf16', 'int8', 'int8, rest bf16'."""
        return self.precision + (f", rest {self.rest}" if self.rest != "fp32" else "")


class StoredProgram(Frozen):
    """One of the programs in a bundle's folder."""

    program: Program
    spec: ProgramSpec = ProgramSpec()
    folder: str = Field("", pattern=r"^(programs/[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
    """The folder of its files; '' is the bundle's own folder."""

    @property
    def title(self) -> str:
        """'torch', or 'openvino, int8, rest bf16, batches of 1, uint8 pixels in'."""
        spec = self.spec
        told = [self.program, "" if self.program == "torch" else spec.arithmetic]
        told += [f"batches of {spec.batch}" if spec.batch else "", "uint8 pixels in" if spec.pixels else ""]
        return ", ".join(part for part in told if part)

    def is_(self, program: Program, spec: ProgramSpec) -> bool:
        """Whether this is the program with the given format and specification."""
        return (self.program, self.spec) == (program, spec)


Head = Literal["softmax", "sigmoid", "regression", "none"]
"""The meaning of a model's outputs: logits of classes that exclude each other (softmax); logits of classes that are
each present or not (sigmoid); values (regression); or features and embeddings of a model without a head (none)."""

Meaning = Literal["probability", "cosine", "value"]
"""The meaning of a score."""


class Similarity(Frozen):
    """Turns the cosine of an image and a text into a logit: `temperature * cosine + bias`."""

    temperature: Finite = Field(gt=0, description="0 would make all scores equal")
    bias: Finite | None = Field(None, description="for models trained with the sigmoid loss (arXiv 2303.15343)")


class Calibration(Frozen):
    """The temperature and thresholds of probabilities, fitted on images that the model was not trained on."""

    temperature: Finite = Field(
        1.0, gt=0, description="logits are divided by it before softmax or sigmoid (arXiv 1706.04599)"
    )
    thresholds: tuple[Share, ...] = Field(
        (), description="sigmoid only: least probability with which each class counts as present; () is 0.5 for all"
    )
    data: str = Field("", description="images on which it was fitted")

    def check(self, head: str, classes: int, where: str) -> None:
        """Raise BundleError unless it fits a model with this head and this number of classes."""
        if head not in ("softmax", "sigmoid"):
            raise BundleError(f"{where}: a calibration is for probabilities, and the head is {head!r}: leave it out")
        if self.thresholds and head != "sigmoid":
            raise BundleError(f"{where}: thresholds are for a sigmoid head, and this one is {head!r}: leave them out")
        if self.thresholds and len(self.thresholds) != classes:
            raise BundleError(f"{where}: {len(self.thresholds)} thresholds for {classes} classes: give one for each")


class Labels(Frozen):
    """Names of the classes, in the order of the logits.

    Several classes may share a name, as 'crane' in ImageNet: `shown` adds their numbers.
    """

    names: tuple[str, ...]

    @field_validator("names")
    @classmethod
    def _kept(cls, names: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        for index, name in enumerate(names):
            reason = wrong_name(name)
            if reason and (info.context != AS_FOUND or not can_be_written(name)):
                raise ValueError(f"the name of class {index}, {name!r}, {reason}")
        return names

    @classmethod
    def as_found(cls, names: Iterable[str]) -> Self:
        """Labels from a file of another tool: empty names and line breaks are kept, as the model can still be used."""
        return cls.model_validate({"names": tuple(names)}, context=AS_FOUND)

    @property
    def shown(self) -> tuple[str, ...]:
        """A name for each class that differs from the others: 'crane (517)' where several share a name."""
        return _told_apart(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        """'<Labels 37: 'abyssinian', 'beagle', 'bengal', ...>'."""
        first = [repr(name if len(name) <= 40 else f"{name[:40]}...") for name in self.names[:3]]
        return f"<Labels {len(self):,}: {', '.join(first + ['...'] * (len(self) > 3))}>"

    def __str__(self) -> str:
        return repr(self)


@functools.lru_cache(maxsize=4)
def _told_apart(names: tuple[str, ...]) -> tuple[str, ...]:
    """Kept, because every answer asks for it: 25 ms for the 21,843 names of ImageNet-21k."""
    return tell_apart(names)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return tuple(size) if isinstance(size, Sequence) else (size, size)  # type: ignore[return-value]  # checked next
