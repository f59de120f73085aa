"""Image files that cannot be read: each is reported once, and too many of them stop the run.

The rule is the same for every verb that trains or evaluates: a share of the images may be unreadable. They are reported
by name and skipped, or replaced in training. More of them stop the work, before it begins where that is possible.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource
from vitsmith.errors import DatasetError, ImageError
from vitsmith.machine import available_cores

SHARE = 0.01
"""Default share of images that may be unreadable: one of a hundred, none of fewer."""
OPTION = "`skip_unreadable`"
"""The name of the share in messages, except in training."""

_SHOWN = 3
_REASON = re.compile(r": (?=(is|has|cannot) )")
"""Where the name of an image ends and what is wrong with it begins."""
_LOOKED = 1_000
"""Further images that are decoded where too many cannot be read, so that one message tells of all."""
ANONYMOUS = ("image bytes", "image array", "image tensor", "image file", "image", "Pillow image")
"""What `name_source` calls an image that has no name."""


def most_unreadable(count: int, share: float) -> int:
    """The number of unreadable files that is allowed among `count`."""
    return math.floor(share * count + 1e-9)  # 0.29 * 100 is a little less than 29


class Unreadable:
    """Files of one data set that could not be read, in the order in which they were found.

    Args:
        names: the name of each image. share: the share of images that may be unreadable. tell: called with the mistake
        in each. option: the option with which users raise the share.
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
        """`index`, then the images that may replace it: the next of the set. If all fail, too many are unreadable."""
        return ((index + step) % len(self._names) for step in range(min(self._most + 1, len(self._names))))

    def add(self, index: int, complaint: str) -> None:
        """Record an unreadable file, each only once.

        Raises DatasetError when there are now too many.
        """
        if index in self.complaints:
            return
        self.complaints[index] = self._named(index, complaint)
        if self._most:
            self._tell(self.complaints[index])
        if len(self.complaints) > self._most:
            raise DatasetError(self._too_many())

    def kept(self) -> list[int]:
        """Positions of the readable images."""
        return [index for index in range(len(self._names)) if index not in self.complaints]

    def told_with_others(self, sources: Sequence[ImageSource], found_at: int) -> str:
        """Why the work stops at the image `found_at`, with what else is unreadable among the next ones.

        They are decoded in threads; they are up to `_LOOKED` images.
        """
        rest = [index for index in range(found_at + 1, len(self._names)) if index not in self.complaints]
        with ThreadPoolExecutor(min(available_cores(), 16), thread_name_prefix="vitsmith-sift") as pool:
            reasons = list(pool.map(lambda index: _why_unreadable(sources, index), rest[:_LOOKED]))
        for index, reason in zip(rest, reasons, strict=False):
            if reason:
                self.complaints[index] = self._named(index, reason)
        if len(self.complaints) == 1:
            return self._too_many()
        return self._listed("at least " if len(rest) > _LOOKED else "")

    def _named(self, index: int, complaint: str) -> str:
        """The complaint with the name of the image in place of 'image bytes' and the like."""
        what, separator, reason = complaint.partition(": ")
        return f"{self._names[index]}: {reason}" if separator and what in ANONYMOUS else complaint

    def _too_many(self) -> str:
        first = next(iter(self.complaints.values()))
        if not self._most:
            first = _REASON.sub(": it ", first, count=1)
            return f"cannot use the image {first} ({self._option} allows a share of unreadable images)"
        return self._listed()

    def _listed(self, at_least: str = "") -> str:
        first = next(iter(self.complaints.values()))
        names = [self._names[index] for index in self.complaints]
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        return (
            f"{at_least}{len(names)} of {len(self._names)} images cannot be read, and {self._option} = {self._share:g} "
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
    """Positions of the readable images, in order. Each image is decoded once, in threads; `tell` reports the others.

    Long work calls it first, instead of finding unreadable images one by one. Raises DatasetError for too many.
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
    """RGB pixels of the readable images; errors as `sift`."""
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
