"""Unreadable images of all processes of a run together: told once each, and too many of them stop it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vitsmith.data.samples import Samples
from vitsmith.data.unreadable import most_unreadable
from vitsmith.errors import DatasetError
from vitsmith.training.devices import Devices


class Complaints:
    """What each part of the data had that could not be read, as far as this process came upon it.

    A process that finds too many by itself stops at once (`data/unreadable.py`); here those of all are added up.
    """

    def __init__(self, parts: Mapping[str, Samples | None], share: float) -> None:
        self._samples = parts
        self._share = share
        self._found: dict[str, set[str]] = {which: set() for which in self._samples}
        self._told: set[str] = set()

    def of(self, which: str) -> set[str]:
        """Where the complaints about a part go: 'train', 'held-out' ..."""
        return self._found[which]

    def share(self, devices: Devices) -> Iterator[str]:
        """What is new, in words. All processes call it at the same moments, and take all of it.

        Raises DatasetError, in all of them, when together they found more than may be unreadable.
        """
        everywhere = devices.gather(self._found)
        for which, samples in self._samples.items():
            complaints = set().union(*(found[which] for found in everywhere))
            for complaint in sorted(complaints - self._told):
                self._told.add(complaint)
                yield f"unreadable {which} image passed over: {complaint}"
            if samples is not None and len(complaints) > most_unreadable(len(samples), self._share):
                raise DatasetError(
                    f"{len(complaints)} of {len(samples)} {which} images cannot be read, more than "
                    f"data.skip_unreadable = {self._share:g} allows ({min(complaints)}): replace or remove them"
                )
