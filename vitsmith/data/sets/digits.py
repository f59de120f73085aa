"""1,797 handwritten digits of 8x8 pixels that come with scikit-learn: real images, without any download.

They are the test set of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI, 1998).
"""

from __future__ import annotations

import numpy as np

from vitsmith.data.sets.samples import Samples, Splits, stratified_split
from vitsmith.errors import MissingPackageError

_ENLARGEMENT = 3  # so that a training crop can move by less than a pixel of the scan
_MARGIN = 4  # the scans end at the ink: with a margin, a crop moves and scales a digit instead of cutting it off
_WHITE = 16  # the largest value: each counts the inked pixels of 4x4 pixels of the scan


def open_digits() -> Splits:
    """Ten classes '0' to '9', uint8 RGB of 32x32 pixels, light on dark; a fifth of each class is held out.

    The split never changes, so that scores can be compared. Every writer is on both sides of it: the score tells how
    well a model reads these writers, not handwriting in general. Raises MissingPackageError without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingPackageError("scikit-learn", "digits") from None
    data = load_digits()
    pixels = np.rint(data.images * (255 / _WHITE)).astype(np.uint8)  # (images, 8, 8)
    pixels = pixels.repeat(_ENLARGEMENT, axis=1).repeat(_ENLARGEMENT, axis=2)
    pixels = np.pad(pixels, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)))  # (images, 32, 32)
    samples = Samples(
        classes=tuple(str(digit) for digit in data.target_names),
        sources=list(np.repeat(pixels[..., None], 3, axis=-1)),
        names=[f"digits/{index:04d}" for index in range(len(pixels))],
        labels=data.target.astype(np.int64),
    )
    return stratified_split(samples, seed=0, fraction=0.2)
