"""What happens to image files that cannot be read: told once each, and too many of them stop the run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from vitsmith.data.samples import Samples
from vitsmith.errors import DatasetError

_SHOWN = 3


def most_unreadable(count: int, share: float) -> int:
    """How many of `count` files may be unreadable."""
    return math.floor(share * count + 1e-9)  # 0.29 * 100 is a little less than 29


class Unreadable:
    """Files of one data set that could not be read, in the order in which they were come upon."""

    def __init__(self, samples: Samples, share: float, tell: Callable[[str], None]) -> None:
        self.complaints: dict[int, str] = {}
        self._samples = samples
        self._share = share
        self._most = most_unreadable(len(samples), share)
        self._tell = tell

    def candidates(self, index: int) -> Iterator[int]:
        """`index` and those that take its place, the next of the set; when all of these fail it is too many."""
        return ((index + step) % len(self._samples) for step in range(min(self._most + 1, len(self._samples))))

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

    def _named(self, index: int, complaint: str) -> str:
        """A complaint about bytes or an array from inside a file begins without a name that tells anybody which."""
        what, separator, reason = complaint.partition(": ")
        anonymous = separator and what in ("image bytes", "image array", "image", "Pillow image")
        return f"{self._samples.names[index]}: {reason}" if anonymous else complaint

    def _too_many(self) -> str:
        first = next(iter(self.complaints.values()))
        if not self._most:
            return f"cannot use the image {first} (data.skip_unreadable lets a share of the images be unreadable)"
        names = [self._samples.names[index] for index in self.complaints]
        shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
        return (
            f"{len(names)} of {len(self._samples)} images cannot be read, and data.skip_unreadable = {self._share:g} "
            f"allows {self._most} ({shown}; {first}): replace or remove them, or raise data.skip_unreadable"
        )
