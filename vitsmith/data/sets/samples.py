"""Labelled images of one data set: the place, name and class of each picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource
from vitsmith.errors import DatasetError, ImageError
from vitsmith.json_text import to_json
from vitsmith.names import look_alikes, normal, wrong_name

_SHOWN = 5  # mistakes listed in a message

T = TypeVar("T")


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made each time they are asked for; thread-safe if `make` is."""

    def __init__(self, count: int, make: Callable[[int], T]) -> None:
        self._positions = range(count)
        self._make = make

    def __len__(self) -> int:
        return len(self._positions)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self._make(position) for position in self._positions[index]]
        return self._make(self._positions[index])

    def __iter__(self) -> Iterator[T]:  # that of Sequence would take an IndexError of `make` as the end
        return map(self._make, self._positions)


@dataclass(frozen=True, eq=False)
class Samples:
    """Images that are read only when asked for, and their labels."""

    classes: tuple[str, ...]
    """Names of the classes; a label is a position in this tuple."""
    sources: Sequence[ImageSource]
    """The path of each image, its bytes or its pixels. Where it is `Lazy`, taking an item reads it; see `image`."""
    names: Sequence[str]
    """The name of each image: its path from the data set's folder, with '/' on every system."""
    labels: NDArray[np.int64]
    """(images,) positions in `classes`."""
    blocks: NDArray[np.int64] | None = None
    """(images,) number of the shard of each image; None where the order of reading does not matter."""
    remarks: tuple[str, ...] = ()
    """Remarks for the user on what was found while the images were listed."""

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Pixels of one image, uint8 RGB of shape (height, width, 3). Raises ImageError that begins with its name."""
        source = self.sources[index]
        try:
            return read_image(source)
        except ImageError as error:
            if isinstance(source, str | os.PathLike):
                raise
            _, _, reason = str(error).partition(": ")  # without 'image bytes', which names no image
            raise ImageError(f"{self.names[index]}: {reason}") from error.__cause__

    def select(self, indices: Sequence[int] | NDArray[np.integer]) -> Samples:
        """Only the images at `indices`, in that order. None of them is read."""
        chosen = np.asarray(indices, np.intp)
        sources = self.sources
        return Samples(
            self.classes,
            Lazy(len(chosen), lambda position: sources[int(chosen[position])]),
            [self.names[index] for index in chosen.tolist()],
            self.labels[chosen],
            None if self.blocks is None else self.blocks[chosen],
        )

    def with_classes(self, classes: tuple[str, ...], where: str) -> Samples:
        """The same images labelled by position in `classes`, which must be exactly the classes that have images here.

        Raises DatasetError that names `where` and every class that is missing or unknown.
        """
        position = {normal(name): index for index, name in enumerate(classes)}
        own = [normal(name) for name in self.classes]
        found = {own[label] for label in np.unique(self.labels).tolist()}
        missing = [name for name in classes if normal(name) not in found]
        unknown = [name for name in self.classes if normal(name) in found and normal(name) not in position]
        mistakes = []
        if missing:
            mistakes.append(f"has no images of {list_classes(missing)}: every split needs images of every class")
        if unknown:
            mistakes.append(
                f"has images of {list_classes(unknown)}, not among the {len(classes)} classes of training: "
                f"rename or remove them, or add them to training{_meant(unknown, missing)}"
            )
        if mistakes:
            raise DatasetError(f"{where} {'; and it '.join(mistakes)}")
        table = np.array([position.get(name, -1) for name in own], np.int64)
        return Samples(classes, self.sources, self.names, table[self.labels], self.blocks)

    def fingerprint(self) -> str:
        """A hash of classes, names and labels: the same for the same data set on every machine."""
        digest = hashlib.blake2b(to_json(self.classes, ascii_only=True).encode(), digest_size=16)
        for name in self.names:
            digest.update(normal(name).encode("utf-8", "surrogateescape") + b"\0")
        digest.update(self.labels.astype("<i8").tobytes())
        return digest.hexdigest()


def samples_of(pairs: Iterable[tuple[ImageSource, str]]) -> Samples:
    """Samples from pairs of an image and its class name. Raises DatasetError for anything else, and for no pairs."""
    if not isinstance(pairs, Iterable) or isinstance(pairs, Mapping | bytes):
        raise DatasetError(f"{type(pairs).__name__} is not a data set: give a path, or pairs of an image and its class")
    listed = list(pairs)
    for number, pair in enumerate(listed):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[1], str):
            raise DatasetError(f"item {number} of the data is not a pair of an image and the name of its class")
    if not listed:
        raise DatasetError("the data holds no images: give pairs of an image and the name of its class")
    classes = tuple(sorted({label for _, label in listed}))
    position = {name: at for at, name in enumerate(classes)}
    sources = [source for source, _ in listed]
    names = [
        os.fsdecode(source) if isinstance(source, str | os.PathLike) else f"image {number}"
        for number, source in enumerate(sources)
    ]
    return Samples(classes, sources, names, np.array([position[label] for _, label in listed], np.int64))


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a data set for training and evaluation. All have the same classes in the same order."""

    train: Samples
    val: Samples
    test: Samples | None = None
    """Images for the final evaluation; None where the data set has no test split beside `val`."""

    def __post_init__(self) -> None:
        check_names(self.classes)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes


@dataclass(frozen=True)
class Source:
    """A place with labelled images."""

    name: str
    """The name in reports."""
    where: str
    """The name in messages: as the user gave it."""
    parts: Mapping[str, Callable[[], Samples]]
    """The functions that read 'train', 'val' and 'test', as far as these exist; '' alone means there are no splits."""
    remarks: tuple[str, ...] = ()
    """Remarks for the user on what was found and is skipped."""


def stratified_split(samples: Samples, *, seed: int, fraction: float) -> Splits:
    """Hold out `fraction` of every class: at least one image, and never all of them.

    A hash of its name and `seed` decides where an image goes: the split is the same on every machine and with every
    version of NumPy, and adding images hardly changes the place of the others.

    Raises DatasetError for a fraction outside 0..1 and for a class of a single image.
    """
    if not 0 < fraction < 1:
        raise DatasetError(f"the share of images to hold out must be between 0 and 1, got {fraction}")
    by_class = np.split(np.argsort(samples.labels, kind="stable"), np.cumsum(_counts(samples))[:-1])
    few = [name for name, group in zip(samples.classes, by_class, strict=True) if len(group) < 2]
    if few:
        raise DatasetError(
            f"{list_classes(few)} {'has' if len(few) == 1 else 'have'} too few images to hold some out "
            "(fewer than 2): add images, or add a split 'val' to the data set"
        )
    held_out: list[int] = []
    for group in by_class:
        members = sorted(group.tolist(), key=lambda index: place_of(samples.names[index], seed))
        held_out += members[: min(max(round(fraction * len(members)), 1), len(members) - 1)]
    kept = np.setdiff1d(np.arange(len(samples)), held_out)
    return Splits(train=samples.select(kept), val=samples.select(sorted(held_out)))


def join(parts: Mapping[str, Samples]) -> Samples:
    """All images of several parts, in their order; the name of each begins with that of its part."""
    if len(parts) == 1:
        return next(iter(parts.values()))
    known: dict[str, str] = {}
    for part in parts.values():
        for name in part.classes:
            known.setdefault(normal(name), name)  # the spelling of the first part
    position = {name: index for index, name in enumerate(known)}
    ends = np.cumsum([len(part) for part in parts.values()])
    sources = [part.sources for part in parts.values()]

    def take(index: int) -> ImageSource:
        which = int(np.searchsorted(ends, index, side="right"))
        return sources[which][index - int(ends[which])]  # counted from the end of its part

    return Samples(
        tuple(known.values()),
        Lazy(int(ends[-1]), take),
        [f"{split}/{name}" for split, part in parts.items() for name in part.names],
        np.concatenate(
            [
                np.array([position[normal(name)] for name in part.classes], np.int64)[part.labels]
                for part in parts.values()
            ]
        ),
    )


def sort_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct names in a fixed order: by value if all are numbers, otherwise by character.

    Names that Unicode writes in two ways, NFC and NFD, are one: the result is in NFC.
    """
    distinct = sorted({normal(name) for name in set(names)})
    if all(name.isascii() and name.isdigit() for name in distinct):
        distinct.sort(key=int)
    return tuple(distinct)


def label_positions(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """(images,) position of each label's name in `classes`."""
    position = {normal(name): index for index, name in enumerate(classes)}
    return np.fromiter((position[normal(label)] for label in labels), np.int64, len(labels))


def empty_classes(samples: Samples) -> list[str]:
    """Names of the classes without a single image."""
    return [name for name, count in zip(samples.classes, _counts(samples).tolist(), strict=True) if not count]


def check_names(classes: Sequence[str]) -> None:
    """Raise DatasetError before training for names that a bundle could not keep."""
    wrong = [f"{name!r} {reason}" for name in classes if (reason := wrong_name(name))]
    if wrong:
        raise DatasetError(
            f"the class {list_some(wrong, ', the class ')}: rename its folder, or write another name in the table"
        )


def list_classes(names: Sequence[str]) -> str:
    """'class 'cat'', 'classes 'cat', 'dog' and 7 more'."""
    return ("class " if len(names) == 1 else "classes ") + list_some([repr(name) for name in names], ", ")


def list_some(mistakes: Sequence[str], between: str = "; ") -> str:
    """The first few mistakes, and how many more there are."""
    more = f" and {len(mistakes) - _SHOWN:,} more" if len(mistakes) > _SHOWN else ""
    return between.join(mistakes[:_SHOWN]) + more


def _meant(unknown: Sequence[str], missing: Sequence[str]) -> str:
    """A hint at the training class that resembles the first unknown class; empty when none does."""
    alike = look_alikes([*missing, unknown[0]])
    pair = next((pair for pair in alike if pair[1] == unknown[0]), None)
    return f" ({pair[1]!r} differs from {pair[0]!r} in {pair[2]})" if pair else ""


def _counts(samples: Samples) -> NDArray[np.int64]:
    return np.bincount(samples.labels, minlength=len(samples.classes)).astype(np.int64)


def place_of(name: str, seed: int) -> bytes:
    """The sort key of an image with this name; held-out images are taken from the front."""
    return hashlib.blake2b(f"{seed}/{normal(name)}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
