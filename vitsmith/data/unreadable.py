"""What happens to image files that cannot be read: told once each, and too many of them stop the run.

One rule for every verb that learns or judges: a share of the images may be unreadable. They are told by name and left
out, or replaced in training; more of them stop the work, before it has begun where that is possible.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.image_sources import ImageSource
from vitsmith.data.images import read_image
from vitsmith.errors import DatasetError, ImageError
from vitsmith.machine import available_cores

SHARE = 0.01
"""Of the images that may be unreadable when nobody says otherwise: of a hundred one, of fewer none."""
OPTION = "`skip_unreadable`"
"""What messages call the share outside training."""

_SHOWN = 3
_ANONYMOUS = ("image bytes", "image array", "image file", "image", "Pillow image")


def most_unreadable(count: int, share: float) -> int:
    """How many of `count` files may be unreadable."""
    return math.floor(share * count + 1e-9)  # 0.29 * 100 is a little less than 29


class Unreadable:
    """Files of one data set that could not be read, in the order in which they were come upon.

    Args:
        names: what each image is called.
        share: of them that may be unreadable.
        tell: called with what is wrong with each.
        option: what users raise the share with.
    """

    def __init__(
        self, names: Sequence[str], share: float, tell: Callable[[str], None], option: str = "data.skip_unreadable"
    ) -> None:
        self.complaints: dict[int, str] = {}
        self._names = names
        self._share = share
        self._most = most_unreadable(len(names), share)
        self._tell = tell
        self._option = option

    def candidates(self, index: int) -> Iterator[int]:
        """`index` and those that take its place, the next of the set; when all of these fail it is too many."""
        return ((index + step) % len(self._names) for step in range(min(self._most + 1, len(self._names))))

    def add(self, index: int, complaint: str) -> None:
        """Takes note of an unreadable file, of each only once.

        Raises DatasetError when it is one too many.
        """
        if index in self.complaints:
            return
        self.complaints[index] = self._named(index, complaint)
        if self._most:
            self._tell(self.complaints[index])
        if len(self.complaints) > self._most:
            raise DatasetError(self._too_many())

    def kept(self) -> list[int]:
        """Positions of the others."""
        return [index for index in range(len(self._names)) if index not in self.complaints]

    def _named(self, index: int, complaint: str) -> str:
        """A complaint about bytes or an array from inside a file begins without a name that tells anybody which."""
        what, separator, reason = complaint.partition(": ")
        return f"{self._names[index]}: {reason}" if separator and what in _ANONYMOUS else complaint

    def _too_many(self) -> str:
        first = next(iter(self.complaints.values()))
        if not self._most:
            return f"cannot use the image {first} ({self._option} lets a share of the images be unreadable)"
        names = [self._names[index] for index in self.complaints]
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        return (
            f"{len(names)} of {len(self._names)} images cannot be read, and {self._option} = {self._share:g} "
            f"allows {self._most} ({shown}; {first}): replace or remove them, or raise {self._option}"
        )


def sift(
    sources: Sequence[ImageSource],
    names: Sequence[str],
    *,
    share: float = SHARE,
    tell: Callable[[str], None],
    option: str = OPTION,
) -> list[int]:
    """Positions of the images that can be read, in order. Each is decoded once, in threads, and told of if it cannot.

    For the images of long work, which would find them one by one. Raises DatasetError for too many.
    """
    unreadable = Unreadable(names, share, tell, option)
    with ThreadPoolExecutor(min(available_cores(), 16), thread_name_prefix="vitsmith-sift") as pool:
        try:
            for index, reason in enumerate(pool.map(lambda index: _why_unreadable(sources, index), range(len(names)))):
                if reason:
                    unreadable.add(index, reason)
        finally:
            pool.shutdown(cancel_futures=True)
    return unreadable.kept()


def read_all(
    sources: Sequence[ImageSource], names: Sequence[str], *, share: float = SHARE, tell: Callable[[str], None]
) -> list[NDArray[np.uint8]]:
    """RGB pixels of the images that can be read; errors as `sift`."""
    unreadable = Unreadable(names, share, tell, OPTION)
    pixels = []
    for index, source in enumerate(sources):
        try:
            pixels.append(read_image(source))
        except ImageError as error:
            unreadable.add(index, str(error))
    return pixels


def _why_unreadable(sources: Sequence[ImageSource], index: int) -> str:
    try:
        read_image(sources[index])
    except ImageError as error:
        return str(error)
    return ""
