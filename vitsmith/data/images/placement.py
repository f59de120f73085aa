"""Where the pixels of an antialiased resize lie: the size an image is resized to, its part that is used, its place.

Pure numbers, each rule as its source has it. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from vitsmith.specs import ImageSpec


class Span(NamedTuple):
    """One axis: `length` pixels become `resized`, of which `pixels` from `start` on are used, at `to` onwards."""

    length: int
    resized: int
    start: int
    pixels: int
    to: int

    @property
    def used(self) -> slice:
        """The pixels of the resized image that are used."""
        return slice(self.start, self.start + self.pixels)

    @property
    def placed(self) -> slice:
        """Their place in the model's input."""
        return slice(self.to, self.to + self.pixels)


def covered(spec: ImageSpec) -> tuple[int, int]:
    """The size before the centre crop: timm's floor(size / crop)."""
    return math.floor(spec.size[0] / spec.crop), math.floor(spec.size[1] / spec.crop)


def spans(source: tuple[int, int], spec: ImageSpec) -> tuple[Span, Span]:
    """The rows and the columns of an image of size `source`, resized as `spec` says."""
    resized = resized_size(source, spec)
    down, across = (
        _span(length, new, side, spec) for length, new, side in zip(source, resized, spec.size, strict=True)
    )
    return down, across


def resized_size(source: tuple[int, int], spec: ImageSpec) -> tuple[int, int]:
    """The size that an image of size `source` is resized to before the centre is cut out or the rest filled."""
    wanted = covered(spec)
    if spec.resize == "squash":
        return wanted
    return _longer_size(source, wanted) if spec.resize == "longer" else _shorter_size(source, wanted)


def _shorter_size(source: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """torchvision's Resize(int), as HF's, where the target is square; timm's ResizeKeepRatio where it is not."""
    height, width = source
    if wanted[0] != wanted[1]:
        ratio = min(height / wanted[0], width / wanted[1])
        return round(height / ratio), round(width / ratio)
    longer = int(wanted[0] * max(source) / min(source))
    return (wanted[0], longer) if height <= width else (longer, wanted[0])


def _longer_size(source: tuple[int, int], wanted: tuple[int, int]) -> tuple[int, int]:
    """ResizeKeepRatio(longest=1) of timm and open_clip, which fail where a side would vanish: here a pixel is kept."""
    ratio = max(source[0] / wanted[0], source[1] / wanted[1])
    return max(round(source[0] / ratio), 1), max(round(source[1] / ratio), 1)


def _span(length: int, resized: int, side: int, spec: ImageSpec) -> Span:
    """torchvision's center_crop, whose round() takes halves to even too, or HF's rounding down; CenterCropOrPad."""
    if resized < side:
        return Span(length, resized, 0, resized, (side - resized) // 2)
    margin = resized - side
    return Span(length, resized, margin // 2 if spec.corner == "floor" else round(margin / 2), side, 0)
