"""What an answer costs beside the engine: decoding and preprocessing, and how far the 95th percentile lies above."""

from __future__ import annotations

import functools
import io
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitsmith.choosing.figures import Mark, MarkedFigure
from vitsmith.cost.cost import Cost
from vitsmith.data.images.preprocess import load_image
from vitsmith.specs import ImageSpec

MEGAPIXEL = 1e6
_LARGEST = (1080, 1920)
"""(height, width) of the largest photo that is decoded to measure; larger ones take as long for each megapixel."""
_SIDES = (224, 384)
_RUNS = 7

Ends = tuple[float, float, float]
"""A value and the ends of its interval."""


@dataclass(frozen=True)
class Overhead:
    """Seconds and factors with the ends of their intervals: (value, low, high)."""

    photo: Ends
    """Seconds for each megapixel of the photo: reading and decoding a JPEG."""
    pixels: Ends
    """Seconds for each megapixel of the model's input: resizing and normalising."""
    spread: Ends
    """The 95th percentile of one image's latency, as a factor of its median."""
    source: str

    def seconds(self, photo: tuple[int, int], image_size: tuple[int, int]) -> Ends:
        """Seconds from the bytes of a photo (height, width) to the input of a model, and their interval."""
        seen, given = math.prod(photo) / MEGAPIXEL, math.prod(image_size) / MEGAPIXEL
        value, low, high = (seen * one + given * two for one, two in zip(self.photo, self.pixels, strict=True))
        return value, low, high

    def answer(self, cost: Cost, photo: tuple[int, int], image_size: tuple[int, int]) -> MarkedFigure:
        """The 95th percentile of one image from bytes to answer; `cost` is of one image, opened for latency."""
        ends = zip((cost.latency, cost.low, cost.high), self.spread, self.seconds(photo, image_size), strict=True)
        value, low, high = (engine * spread + before for engine, spread, before in ends)
        return MarkedFigure(value, low, high, Mark.predicted, f"calibration; decoding: {self.source}")


# On two Zen 5 cores, JPEG photos of 0.3 to 12 megapixels at quality 90, to 224 and 384 pixels: 4.0 ms a megapixel of
# the photo and 37 ms a megapixel of the input. Others are taken to need two thirds of that, or three times as much.
USUAL = Overhead(
    photo=(0.0040, 0.0027, 0.0120),
    pixels=(0.037, 0.025, 0.110),
    spread=(1.15, 1.0, 1.5),
    source="usual times, not measured on that machine",
)
"""For machines that are not this one."""


def spread_of(calls: Iterable[Sequence[float]]) -> Ends:
    """The 95th percentile as a factor of the median, from repeated calls (seconds) of several models.

    The ends of its interval are half and twice as far above 1.
    """
    ratios = [np.asarray(one) / np.median(one) for one in calls if len(one) > 1]
    if not ratios:
        return USUAL.spread
    above = max(float(np.percentile(np.concatenate(ratios), 95)) - 1, 0.01)
    return 1 + above, 1 + above / 2, 1 + 2 * above


def with_spread(overhead: Overhead, calls: Iterable[Sequence[float]]) -> Overhead:
    """The overhead with the spread of these calls."""
    return replace(overhead, spread=spread_of(calls))


@functools.cache
def measured_here(photo: tuple[int, int]) -> Overhead:
    """Decodes a made photo of that size (height, width) a few times on this machine, in about 0.2 s."""
    height, width = (min(side, most) for side, most in zip(photo, _LARGEST, strict=True))
    data = _jpeg(height, width)
    small, large = (_times(data, side) for side in _SIDES)
    given = [side * side / MEGAPIXEL for side in _SIDES]
    pixels = max((np.median(large) - np.median(small)) / (given[1] - given[0]), 0.0)
    seen = height * width / MEGAPIXEL

    def per_megapixel(seconds: float) -> float:
        return float(max(seconds - pixels * given[0], 0.1 * seconds) / seen)

    middle, low, high = (per_megapixel(float(np.percentile(small, share))) for share in (50, 0, 95))
    wide = float(pixels)
    return Overhead(
        photo=(middle, 0.9 * low, 1.1 * high),
        pixels=(wide, 0.7 * wide, 1.4 * wide),
        spread=USUAL.spread,
        source="measured here, a made photo",
    )


def _times(data: bytes, side: int) -> list[float]:
    spec, found = ImageSpec(size=(side, side)), []
    load_image(data, spec)
    for _ in range(_RUNS):
        began = time.perf_counter()
        load_image(data, spec)
        found.append(time.perf_counter() - began)
    return found


def _jpeg(height: int, width: int) -> bytes:
    """A photo of soft shapes with some noise, as large a file for its size as usual photos are."""
    from PIL import Image

    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height)), dtype=np.int16)
    noisy = soft + random.integers(-8, 9, soft.shape, dtype=np.int16)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
