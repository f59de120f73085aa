"""Collects the unreadable images of all processes of a run: each is reported once, and too many stop the run."""

from __future__ import annotations

from collections.abc import Mapping

from vitsmith.data.images.unreadable import most_unreadable
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import DatasetError
from vitsmith.training.devices import Devices
from vitsmith.training.monitor.journal import Journal


class Complaints:
    """The unreadable images of each part of the data.

    A process that finds too many by itself stops at once (`data/images/unreadable.py`); here all processes
    count together.
    """

    def __init__(self, parts: Mapping[str, Samples | None], share: float, devices: Devices) -> None:
        self._samples, self._share, self._devices = parts, share, devices
        self._found: dict[str, set[str]] = {which: set() for which in self._samples}
        self._told: set[str] = set()

    def of(self, which: str) -> set[str]:
        """The set of complaints about a part, to add to: 'train', 'held-out' ..."""
        return self._found[which]

    def share(self, journal: Journal) -> None:
        """Warns of each new unreadable image. All processes call it at the same moments.

        Raises DatasetError in all processes when together they found more unreadable images than are allowed.
        """
        everywhere = self._devices.gather(self._found)
        for which, samples in self._samples.items():
            complaints = set().union(*(found[which] for found in everywhere))
            for complaint in sorted(complaints - self._told):
                self._told.add(complaint)
                journal.warn(f"unreadable {which} image skipped: {complaint}")
            if samples is not None and len(complaints) > most_unreadable(len(samples), self._share):
                raise DatasetError(
                    f"{len(complaints)} of {len(samples)} {which} images cannot be read, more than "
                    f"data.skip_unreadable = {self._share:g} allows ({min(complaints)}): replace or remove them"
                )
