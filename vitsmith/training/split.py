"""Records which images a run trains on and is evaluated on, for later evaluations of the model."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from vitsmith.arguments import Tell
from vitsmith.data.sets.samples import Samples
from vitsmith.data.sets.split_record import (
    SPLIT,
    Contents,
    SplitRecord,
    distinct,
    leak,
    read_contents,
    read_split,
    write_split,
)
from vitsmith.errors import BundleError
from vitsmith.files.atomic import replacing
from vitsmith.runs.run import Run
from vitsmith.training.devices import Devices
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import read_bundle
from vitsmith.weights.bundle.paths import find_bundle

_QUIET = 2.0  # seconds of reading before the first report
_EVERY = 30.0  # seconds between reports after that


@dataclass(frozen=True, eq=False)
class Recorded:
    """The record of a run, and warnings about held-out images that the model knows."""

    record: SplitRecord
    leaks: tuple[str, ...]
    """Why the score is too good, in sentences."""
    resumed: bool = False
    """Whether the user was told before."""

    def mark(self, bundle: Bundle) -> Bundle:
        """The bundle with the record, and with the leaks as notes beside its score."""
        return bundle.noted(*self.leaks).with_split(self.record)


def record_split(
    parts: Mapping[str, Samples | None],
    parents: Sequence[str],
    run: Run | None,
    devices: Devices,
    tell: Tell,
    *,
    teacher: str = "",
    resumed: bool = False,
) -> Recorded:
    """Reads every image of `parts` ('train', 'held_out', perhaps 'test') once, each process its share.

    `parents` are what the model begins from. The training images of a distillation's `teacher` are not recorded, but
    reported where they are held out here. The record is kept in the run's folder until it lies in the bundle, so that
    a resumed run has exactly the same one. Raises BundleError for a parent whose record is damaged.
    """
    taught = _leaks_of_teacher(teacher, parts, devices, tell)
    named = " or ".join(filter(None, parents))
    began = _begin(parents, tell)
    kept = _kept(run) if resumed else None
    kept, salt = devices.gather((kept, began.salt))[0]  # the main process's: only it has a run
    if kept is not None:
        return Recorded(kept, (*kept.leaks(named), *taught), resumed=True)
    began = replace(began, salt=salt)
    total = sum(len(samples) for samples in parts.values() if samples is not None)
    reading = _Reading(total // devices.count, tell)
    found = {
        name: distinct(_read(samples, salt, devices, reading)) for name, samples in parts.items() if samples is not None
    }
    record = replace(began, train=found["train"], held_out=found["held_out"], test=found.get("test", began.test))
    if run is not None:
        with replacing(run.folder / SPLIT) as partial:
            write_split(record, partial)
    return Recorded(record, (*record.leaks(named), *taught))


def forget_kept(run: Run) -> None:
    """Removes what `record_split` kept in the run's folder: the bundle has it now."""
    (run.folder / SPLIT).unlink(missing_ok=True)


def _begin(parents: Sequence[str], tell: Tell) -> SplitRecord:
    """A record with the training images of `parents` as `earlier`, as far as their digests share the first's salt."""
    began: SplitRecord | None = None
    for parent in filter(None, map(find_bundle, filter(None, parents))):
        bundle = read_bundle(parent, verify=False)
        record = bundle.split
        if record is None and not bundle.trained_here:
            continue  # a published model, whose images are known from its paper
        if record is not None and (began is None or began.salt == record.salt):
            more = record.as_parent()
            if began is not None:
                earlier, complete = np.union1d(began.earlier, more.earlier), began.complete and more.complete
                more = replace(more, earlier=earlier, complete=complete)
            began = more
            continue
        tell(f"{parent} does not record its training images: held-out images may be among them")
        began = replace(began or SplitRecord.empty(), complete=False)
    return began or SplitRecord.empty()


def _kept(run: Run | None) -> SplitRecord | None:
    if run is not None:
        with suppress(BundleError, FileNotFoundError):
            return read_split(run.folder / SPLIT)
    return None


def _read(samples: Samples, salt: bytes, devices: Devices, reading: _Reading) -> Contents:
    mine = read_contents(samples, salt, part=devices.index, parts=devices.count, on_images=reading)
    return Contents(*map(np.concatenate, zip(*devices.gather(mine), strict=True)))


class _Reading:
    """Reports the progress of reading, if it takes long."""

    def __init__(self, total: int, tell: Tell) -> None:
        self._total, self._tell, self._done = total, tell, 0
        self._next = time.monotonic() + _QUIET

    def __call__(self, images: int) -> None:
        self._done += images
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _EVERY
            self._tell(f"reading every image once, to record which are held out: {self._done:,} of {self._total:,}")


def _leaks_of_teacher(
    teacher: str, parts: Mapping[str, Samples | None], devices: Devices, tell: Tell
) -> tuple[str, ...]:
    """Warnings about held-out and test images that the teacher knows. They are read once more, with its salt."""
    folder = find_bundle(teacher) if teacher else None
    bundle = read_bundle(folder, verify=False) if folder is not None else None
    if bundle is None or (bundle.split is None and not bundle.trained_here):
        return ()
    record = bundle.split
    if record is None:
        tell(f"the teacher {teacher} does not record its training images: held-out images may be among them")
        return ()
    told = []
    for part, what in (("held_out", "held-out"), ("test", "test")):
        if (samples := parts.get(part)) is not None:
            digests = distinct(_read(samples, record.salt, devices, _Reading(len(samples) // devices.count, tell)))
            told += leak(digests, record.as_parent().earlier, what, f"the teacher {teacher}")
    return tuple(told)
