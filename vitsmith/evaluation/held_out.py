"""Chooses the evaluation images of a data set: those that the model was not trained on. All verbs with labels use it.

A bundle's split record (`data/sets/split_record.py`) tells images apart by their contents: *held out* (evaluated on in
training, not trained on), *trained on*, and *new*, on neither list. By default the held-out and new images are used. A
split that is asked for by name is used as it is, with a warning where it has training images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vitsmith.arguments import Tell
from vitsmith.data.images.sources import ImageSource
from vitsmith.data.sets.datasets import ALL, DataSpec, find_source, open_part, telling
from vitsmith.data.sets.pairs import PairSpec, find_pairs
from vitsmith.data.sets.samples import Samples, Source
from vitsmith.data.sets.split_record import Contents, Digests, SplitRecord, read_contents
from vitsmith.errors import DatasetError
from vitsmith.weights.bundle.bundle import Bundle

OnImages = Callable[[int], None]
"""Called with the number of images that were read since the last call."""


_COUNTED = "evaluating on "  # what the remark that counts the images begins with


def ignore(images: int) -> None:
    """An `OnImages` that does nothing."""


@dataclass(frozen=True, eq=False)
class Asked:
    """The images that a user asked to evaluate on, before the split record is compared."""

    samples: Samples
    name: str
    """Name of the images in reports."""
    split: str
    """The split that the user named; '' for none."""
    divided: bool
    """Whether the data set has splits of its own."""
    unit: str = "images"
    """What a sample is: 'images', or 'pairs' of image and caption."""


@dataclass(frozen=True, eq=False)
class EvaluationSet:
    """Evaluation images."""

    samples: Samples
    data: str
    """Name of the data set in reports."""
    what: str
    """Which of its images, as 'held-out images'; '' where the name of the data set says it."""
    told: tuple[str, ...] = ()
    """Remarks for the user on these images."""
    counts: dict[str, int] | None = None
    """Number of images that are 'held_out', 'new' and 'trained_on', of training images that are 'left_out', and of
    held-out images that the data set lacks ('missing'). None: the model has no split record."""

    @property
    def name(self) -> str:
        """'pets, held-out images'."""
        return f"{self.data}, {self.what}" if self.what else self.data

    def told_of(self, most: int) -> tuple[str, ...]:
        """The remarks, where at most `most` of the images are used."""
        if len(self.samples) <= most:
            return self.told
        count = f"evaluating on {most:,} of "
        for at, told in enumerate(self.told):
            if told.startswith(_COUNTED):
                return (*self.told[:at], count + told.removeprefix(_COUNTED), *self.told[at + 1 :])
        return (f"{count}the {len(self.samples):,} evaluation images", *self.told)

    @property
    def counted(self) -> str:
        """'pets, 291 held-out images'."""
        seen = self.counts is not None and self.counts["trained_on"]
        return f"{self.data}, {len(self.samples):,} {self.what}" if self.what and not seen else self.name


def ask(data: DataSpec | str, split: str = "", *, tell: Tell | None = None) -> Asked:
    """Labelled images to evaluate on: `split` ('train', 'val', 'test' or 'all').

    By default the data set's own 'val', else its 'test', else, if it has no splits, all images. `tell` and errors are
    as for `open_labelled`.
    """
    spec = DataSpec(path=data) if isinstance(data, str) else data
    return _ask(find_source(spec.path if split or not spec.val else spec.val, spec), split, tell)


def ask_pairs(data: PairSpec | str, split: str = "", *, tell: Tell | None = None) -> Asked:
    """Captioned images to evaluate on, chosen as `ask` does."""
    spec = PairSpec(path=data) if isinstance(data, str) else data
    return replace(_ask(find_pairs(spec.path if split or not spec.val else spec.val, spec), split, tell), unit="pairs")


def _ask(source: Source, split: str, tell: Tell | None) -> Asked:
    samples, name = open_part(telling(source, tell), split)
    return Asked(samples, name, split, is_divided(source))


def is_divided(source: Source) -> bool:
    """Whether a data set has a split of evaluation images."""
    return any(part in source.parts for part in ("val", "test"))


def choose(bundles: Sequence[Bundle], asked: Asked, *, on_images: OnImages = ignore) -> EvaluationSet:
    """Evaluation images for all of `bundles`: none was trained on any of them, unless a split was asked for by name.

    Every image is read once for each bundle that has a split record. Raises DatasetError when no evaluation image is
    left, and BundleError for a damaged record.
    """
    whose = "the model" if len(bundles) == 1 else "one of the models"
    known = [bundle for bundle in bundles if bundle.split is not None]
    silent = tuple(_silence(bundle, asked) for bundle in bundles if _might_leak(bundle, asked))
    if not known:
        return EvaluationSet(asked.samples, asked.name, "", silent)
    roles = look(asked.samples, known, on_images)
    if asked.split:
        return _as_asked(asked, roles, whose, silent)
    left_out = int(roles.trained.sum())
    if left_out == len(asked.samples):
        raise DatasetError(
            f"all {left_out:,} {asked.unit} of {asked.name} were used to train {whose}, so none is left to "
            "evaluate on: give others (vitsmith evaluate --split all scores all of them)"
        )
    told = f"{left_out:,} that {whose} was trained on are left out" if left_out else ""
    return evaluation_set_of(asked, roles, ~roles.trained, told, silent)


class Roles(NamedTuple):
    """The role of each image, from the split records. Arrays are (images,), in the order of the samples."""

    trained: NDArray[np.bool_]
    held_out: NDArray[np.bool_]
    missing: int
    """Number of held-out images that the data set lacks; 0 where it has none of them."""
    notes: tuple[str, ...]
    contents: Contents

    @property
    def new(self) -> NDArray[np.bool_]:
        return ~(self.trained | self.held_out)


def look(samples: Samples, bundles: Sequence[Bundle], on_images: OnImages = ignore) -> Roles:
    """Looks up the images in the split records of `bundles`, all of which have one.

    Reads every image once for each record. An image that one bundle was trained on is not held out for any.
    """
    trained, held_out = np.zeros(len(samples), np.bool_), np.zeros(len(samples), np.bool_)
    missing, notes = 0, list[str]()
    for bundle in bundles:
        record = bundle.split
        assert record is not None
        contents = read_contents(samples, record.salt, on_images=on_images)
        mine = _look_up(record, contents)
        trained |= mine.trained
        held_out |= mine.held_out
        missing += mine.missing
        notes += [note if len(bundles) == 1 else f"{bundle.where}: {note}" for note in mine.notes]
    return Roles(trained, held_out & ~trained, missing, tuple(notes), contents)


def known_among(bundle: Bundle, sources: Sequence[ImageSource]) -> int:
    """Number of images that the bundle was trained on; 0 where that is not known. Reads every image once."""
    if bundle.split is None:
        return 0
    names = tuple(f"image {at}" for at in range(len(sources)))
    samples = Samples((), sources, names, np.zeros(len(sources), np.int64))
    return int(look(samples, [bundle]).trained.sum())


def _look_up(record: SplitRecord, contents: Contents) -> Roles:
    digests, readable = contents

    def among(known: Digests) -> NDArray[np.bool_]:
        return readable & np.isin(digests, known)

    learned, kept, earlier = among(record.train), among(record.held_out) | among(record.test), among(record.earlier)
    held_out = kept & ~learned  # includes images that only the starting model was trained on: training warned of these
    there = int(np.isin(record.held_out, digests).sum())
    missing = len(record.held_out) - there if there else 0
    notes = []
    if twice := int((learned & kept).sum()):
        notes.append(f"{twice:,} images were held out and trained on, under two names: they count as trained on")
    if before := int((held_out & earlier).sum()):
        notes.append(f"the model it began from was trained on {before:,} of the held-out images: the score is too good")
    if missing:
        notes.append(f"{missing:,} of the {len(record.held_out):,} images held out in training are not in this data")
    if not record.complete:
        notes.append("the training images of the model it began from are not recorded: some of these may be among them")
    return Roles(learned | (earlier & ~kept), held_out, missing, tuple(notes), contents)


def evaluation_set_of(
    asked: Asked, roles: Roles, chosen: NDArray[np.bool_], others: str, more: tuple[str, ...]
) -> EvaluationSet:
    """The evaluation set of the `chosen` images, none of which was trained on."""
    held_out, new = int((roles.held_out & chosen).sum()), int((roles.new & chosen).sum())
    kinds = [(held_out, "held-out"), (new, "new")]
    what = " and ".join(kind for count, kind in kinds if count)
    counted = " and ".join(f"{count:,} {kind}" for count, kind in kinds if count)
    told = f"{_COUNTED}{counted} {asked.unit} of {asked.name}{f'; {others}' if others else ''}"
    whole = bool(chosen.all()) and (asked.divided or not held_out)  # the data set's name says which images these are
    counts = {
        "held_out": held_out,
        "new": new,
        "trained_on": 0,
        "left_out": int((~chosen).sum()),
        "missing": roles.missing,
    }
    samples = asked.samples if chosen.all() else asked.samples.select(np.flatnonzero(chosen))
    return EvaluationSet(
        samples, asked.name, "" if whole else f"{what} {asked.unit}", (told, *roles.notes, *more), counts
    )


def _as_asked(asked: Asked, roles: Roles, whose: str, more: tuple[str, ...]) -> EvaluationSet:
    """A split that was asked for by name, with a warning where training images are in it."""
    count, trained = len(asked.samples), int(roles.trained.sum())
    counts = {
        "held_out": int(roles.held_out.sum()),
        "new": int(roles.new.sum()),
        "trained_on": trained,
        "left_out": 0,
        "missing": roles.missing,
    }
    if not trained:
        return replace(evaluation_set_of(asked, roles, np.ones(count, np.bool_), "", more), what="")
    told = (
        f"warning: {whose} was trained on {trained:,} of the {count:,} {asked.unit} of {asked.name}: "
        "the score shows how well it remembers them, not how good it is on new ones"
    )
    what = "training images" if trained == count else "training images among them"
    return EvaluationSet(asked.samples, asked.name, what, (told, *roles.notes, *more), counts)


def _might_leak(bundle: Bundle, asked: Asked) -> bool:
    """Whether training images may be among those asked for, and the bundle has no record to tell."""
    return bundle.split is None and bundle.trained_here and (asked.split == ALL or not (asked.split or asked.divided))


def _silence(bundle: Bundle, asked: Asked) -> str:
    return (
        f"warning: {bundle.where} does not say which images it was trained on: some may be among the "
        f"{len(asked.samples):,} {asked.unit} of {asked.name}, and the score is then too good"
    )
