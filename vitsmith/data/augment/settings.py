"""Settings for varying training images, and the training crop of the original: a random box of the image.

Source: `get_data` in vit_jax/input_pipeline.py. The box is that of tf.image.sample_distorted_bounding_box without
bounding boxes, drawn as TensorFlow's sample_distorted_bounding_box_op.cc does.
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from vitsmith.fields import Finite, Frozen, Number

Share = Annotated[float, Field(gt=0, le=1), Number]
Ratio = Annotated[float, Field(ge=0.001, le=1000), Number]

Grade = Literal["none", "light1", "light2", "medium1", "medium2", "strong1", "strong2"]

# RandAugment's operations for each image, its magnitude, and mixup's alpha; arXiv 2106.10270 section 3.
GRADES: dict[str, tuple[int, float, float]] = {
    "none": (0, 0, 0.0),
    "light1": (2, 0, 0.0),
    "light2": (2, 10, 0.2),
    "medium1": (2, 15, 0.2),
    "medium2": (2, 15, 0.5),
    "strong1": (2, 20, 0.5),
    "strong2": (2, 20, 0.8),
}

_ATTEMPTS = 100  # TensorFlow's max_attempts; after them the whole image is taken


class AugmentSpec(Frozen):
    """Settings for varying training images. The defaults are the original's."""

    area: tuple[Share, Share] = Field((0.05, 1.0), description="smallest and largest crop, as a share of the image")
    aspect: tuple[Ratio, Ratio] = Field(
        (0.75, 1.33), description="lowest and highest width / height of the crop, in pixels"
    )  # 1.33 and not 4/3: the default of tf.image.sample_distorted_bounding_box
    flip: bool = Field(True, description="mirror half of the images at random; not for text, digits or hands")
    decoding: Literal["scaled", "exact"] = Field(
        "scaled", description="JPEGs may be decoded at the least scale that still holds the crop in full; exact: never"
    )
    grade: Grade = Field("none", description="RandAugment and mixup as graded by AugReg (arXiv 2106.10270)")
    mixup: Finite | None = Field(None, ge=0, description="alpha of mixup (arXiv 1710.09412); default: the grade's")
    color: Finite = Field(0.0, ge=0, le=1, description="largest random change of brightness, contrast and saturation")
    erasing: Finite = Field(0.0, ge=0, le=1, description="share of images of which a random box is erased")

    @property
    def mixup_alpha(self) -> float:
        """Alpha of mixup; 0 means no mixup."""
        return GRADES[self.grade][2] if self.mixup is None else self.mixup

    @property
    def randaugment(self) -> tuple[int, float]:
        """Number of operations for each image, and their magnitude."""
        operations, magnitude, _ = GRADES[self.grade]
        return operations, magnitude

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        mistakes = [
            f"{name} must go from low to high, got {low:g} to {high:g}"
            for name, (low, high) in (("area", self.area), ("aspect", self.aspect))
            if low > high
        ]
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self


class Box(NamedTuple):
    """A rectangle of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


def sample_box(height: int, width: int, spec: AugmentSpec, random: np.random.Generator) -> Box:
    """A box in an image of (height, width); the whole image when 100 attempts find none."""
    for _ in range(_ATTEMPTS):
        aspect = random.uniform(*spec.aspect)
        size = _sample_size(height, width, aspect, spec.area, random)
        if size is not None:
            # The last position is never drawn: TensorFlow leaves it out too.
            top = int(random.integers(height - size[0])) if size[0] < height else 0
            left = int(random.integers(width - size[1])) if size[1] < width else 0
            return Box(top, left, *size)
    return Box(0, 0, height, width)


def _sample_size(
    height: int, width: int, aspect: float, area: tuple[float, float], random: np.random.Generator
) -> tuple[int, int] | None:
    """(height, width) of a box whose height is drawn evenly between the smallest and largest; None if nothing fits."""
    smallest, largest = (share * height * width for share in area)
    low = round((smallest / aspect) ** 0.5)
    high = min(round((largest / aspect) ** 0.5), height)
    if round(high * aspect) > width:
        high = int((width + 0.5) / aspect)
        high -= round(high * aspect) > width  # half a pixel may have been rounded up
    tall = int(random.integers(low, high + 1)) if low < high else high
    # Rounding may have left the permitted areas by a little: one row more, or one row less, mends it.
    if tall * round(tall * aspect) < smallest:
        tall += 1
    if tall * round(tall * aspect) > largest:
        tall -= 1
    wide = round(tall * aspect)
    fits = 0 < tall <= height and 0 < wide <= width and smallest <= tall * wide <= largest
    return (tall, wide) if fits else None
