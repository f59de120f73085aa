"""Frozen descriptions that travel with a model: how pixels, words and labels are to be read.

Nothing here imports torch, so that `inspect`, the serving front end and the tests of a description are light.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
Triple = tuple[float, float, float]


class Frozen(BaseModel):
    """A description: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageSpec(Frozen):
    """How an RGB image becomes the model's input: resize, crop, quantise, normalise.

    The input is uint8 RGB of any size, the output float32 of shape (3, height, width):
    `(pixel / 255 - mean) / std`.
    """

    size: tuple[PositiveInt, PositiveInt] = Field(description="(height, width) of the model's input, in pixels")
    resize: Literal["squash", "shorter"] = Field(
        "squash", description="'squash' ignores the aspect ratio; 'shorter' keeps it and crops the centre"
    )
    crop: float = Field(
        1.0, gt=0, le=1, description="with 'shorter': side of the centre crop as a share of the resized shorter side"
    )
    interpolation: Literal["bilinear", "bicubic", "lanczos"] = "bilinear"
    antialias: bool = Field(
        False,
        description="False: two-tap bilinear, as tf.image.resize; True: Pillow's filters, which widen to shrink",
    )
    quantize: Literal["none", "truncate", "round"] = Field(
        "none", description="what happens to the resized pixels: kept as float, truncated to uint8, or rounded to uint8"
    )
    mean: Triple = (0.5, 0.5, 0.5)
    std: Triple = (0.5, 0.5, 0.5)
    scaled_decoding: bool = Field(
        False,
        description="JPEGs much larger than needed may be decoded at a fraction of their size: faster, approximate",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.antialias and self.quantize != "round":
            raise ValueError("antialias=True resizes with Pillow, which rounds to uint8: set quantize='round'")
        if not self.antialias and self.interpolation != "bilinear":
            raise ValueError(f"interpolation={self.interpolation!r} needs antialias=True")
        if self.crop != 1.0 and self.resize == "squash":
            raise ValueError("crop is for resize='shorter'; 'squash' uses the whole image")
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
        """The recipe of timm, torchvision and HF: Pillow resize with antialiasing, centre crop, mean and std."""
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


class TextSpec(Frozen):
    """How text becomes token ids of shape (length,), int32. Source: vit_jax/preprocess.py."""

    tokenizer: Literal["wordpiece", "sentencepiece"]
    length: PositiveInt = Field(16, description="tokens per text, after padding or clipping")
    vocabulary: PositiveInt = Field(description="number of token ids the text tower knows")
    lower_case: bool = True


class Labels(Frozen):
    """Names of the classes, in the order of the logits."""

    names: tuple[str, ...]

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        repeated = sorted({name for name in self.names if self.names.count(name) > 1}) if len(self) < 1000 else []
        if repeated:
            raise ValueError(f"label names must be distinct; repeated: {', '.join(repeated[:5])}")
        return self

    def __len__(self) -> int:
        return len(self.names)


class Provenance(Frozen):
    """Where a model came from."""

    source: str = Field(description="file, URL or command it was made from")
    format: str = Field("", description="format of the source: jax-npz, timm, hf, bundle, trained")
    sha256: str = Field("", description="hash of the source file, when it was a file and was hashed")
    parent: str = Field("", description="what the source itself was made from: a checkpoint, a bundle")
    date: str = Field("", description="ISO 8601 date on which this was made")
    vitsmith: str = Field("", description="version that wrote it")
    notes: tuple[str, ...] = ()


class Measurement(Frozen):
    """One number, and how it was come by."""

    name: str = Field(description="what: top1, latency_ms, images_per_second ...")
    value: float
    unit: str = ""
    data: str = Field("", description="data set and split it was measured on")
    machine: str = ""
    date: str = ""
    low: float | None = Field(None, description="lower end of the 95% confidence interval")
    high: float | None = Field(None, description="upper end of the 95% confidence interval")


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
