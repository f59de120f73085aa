"""The training crop of the original: a random box of the image, then perhaps its mirror image.

Source: `get_data` in vit_jax/input_pipeline.py. The box is that of tf.image.sample_distorted_bounding_box without
bounding boxes, drawn as TensorFlow's sample_distorted_bounding_box_op.cc does.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vitsmith.specs import Frozen

Share = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_ATTEMPTS = 100  # TensorFlow's max_attempts; then the whole image


class AugmentSpec(Frozen):
    """How training images are varied. The defaults are the original's."""

    area: tuple[Share, Share] = Field((0.05, 1.0), description="smallest and largest crop, as a share of the image")
    aspect: tuple[Ratio, Ratio] = Field(
        (0.75, 1.33), description="lowest and highest width / height of the crop, in pixels"
    )  # 1.33 and not 4/3: the default of tf.image.sample_distorted_bounding_box
    flip: bool = Field(True, description="mirror every second image; not for text, digits or anything with a hand")

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


def augment(image: NDArray[np.uint8], spec: AugmentSpec, random: np.random.Generator) -> NDArray[np.uint8]:
    """A random part of an image, perhaps mirrored: uint8 of shape (height, width, 3), a view of the pixels given.

    The original mirrors after it resizes; bilinear resizing is symmetric, so the order does not matter.
    """
    box = sample_box(image.shape[0], image.shape[1], spec, random)
    part = image[box.top : box.top + box.height, box.left : box.left + box.width]
    return part[:, ::-1] if spec.flip and random.random() > 0.5 else part


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
