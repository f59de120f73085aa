"""What an answer costs beside the engine: decoding and preprocessing, and how far the 95th percentile lies above."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vitsmith.choosing.figures import Mark, MarkedFigure
from vitsmith.cost.cost import Cost

MEGAPIXEL = 1e6


@dataclass(frozen=True)
class Overhead:
    """Seconds and factors with the ends of their intervals: (value, low, high)."""

    photo: tuple[float, float, float]
    """Seconds for each megapixel of the photo: reading and decoding a JPEG."""
    pixels: tuple[float, float, float]
    """Seconds for each megapixel of the model's input: resizing and normalising."""
    spread: tuple[float, float, float]
    """The 95th percentile of one image's latency, as a factor of its median."""
    source: str

    def seconds(self, photo: tuple[int, int], image_size: tuple[int, int]) -> tuple[float, float, float]:
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
    source="usual times, not measured on this machine",
)
"""Where a calibration does not say it."""
