"""What `duplicates` and `cluster` are given: indexes, folders and files, as items with their vectors."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vitsmith.arguments import Tell, path
from vitsmith.arrays import Array
from vitsmith.data.images.files import survey
from vitsmith.data.images.unreadable import most_unreadable
from vitsmith.encode import SHORTEST, Encoder
from vitsmith.errors import DatasetError, InputError
from vitsmith.machine import available_cores
from vitsmith.retrieval.description import Space, check_same_model, check_searchable, is_index
from vitsmith.retrieval.index import LONGEST, Index, lengths_of, open_index
from vitsmith.retrieval.single_file import FORMATS
from vitsmith.sorting.items import Item, Listing
from vitsmith.stream import Failure

Place = Index | str | os.PathLike[str]
"""An index or its folder, an image folder, or an image file."""
Model = Any
"""An `Encoder`, a bundle, or anything `vitsmith.load` takes."""
Step = Callable[[str, int, int], None]
"""Called with what is done ('embedding', 'comparing'), how much of it is done, and how much there is."""
_MANY = 1_000
"""Images from which on it is worth a remark that their features are not kept."""
_ROWS = 4_096  # vectors that are checked at once


@dataclass(frozen=True)
class Collection:
    """Items with their vectors."""

    items: tuple[Item, ...]
    rows: Array
    """int64 (items,): the place of each item's vector in `vectors`; -1 for none."""
    vectors: Array
    """(R, E) float16 or float32, unit vectors."""
    kind: str
    """'images' or 'texts'."""
    model: str
    """The model of the vectors, as the user gave it; empty where nothing was embedded."""
    index: Index | None
    """The first of the indexes, which all hold the same; None where images were embedded now."""
    unreadable: tuple[tuple[str, str], ...]
    """(name, reason) of each image that could not be read or embedded."""

    @property
    def embedded(self) -> bool:
        """Whether there are vectors, so that what is alike can be found."""
        return bool(self.model)


class Opener:
    """Opens a model that a caller gave, or that of an index, once, when it is needed."""

    def __init__(self, model: Model = None, open_encoder: Callable[[Space | None], Encoder] | None = None) -> None:
        self.given = model is not None
        """Whether the caller gave a model."""
        self._model = model
        self._open = open_encoder or self._usual
        self._encoder: Encoder | None = model if isinstance(model, Encoder) else None

    def __call__(self, space: Space | None) -> Encoder:
        """The encoder of what an index of this `space` holds. Raises InputError where it cannot be opened."""
        if self._encoder is None:
            self._encoder = self._open(space)
        return self._encoder

    def _usual(self, space: Space | None) -> Encoder:
        if space is None:
            return Encoder(self._model)
        if self._model is not None:
            return Encoder(self._model, what=space.what)
        try:
            return Encoder(space.model, what=space.what)
        except InputError as error:
            raise InputError(f"the model of the index: {error} (or give its place with `model`)") from error


@dataclass(frozen=True)
class Gathering:
    """How places are read."""

    opener: Opener
    """Opens the model that embeds images."""
    model: str = ""
    """Its name."""
    skip_unreadable: float | None = None
    """Largest share of images that may be unreadable; None for all."""
    tell: Tell = lambda _: None
    on_step: Step = lambda *_: None
    """Called while images are embedded."""


def gather(places: Place | Iterable[Place], how: Gathering) -> Collection:
    """The items of all places, each file once. Images that are in no index are embedded, where there is a model.

    The model is that of `how`, or without one that of the indexes. Raises InputError for indexes that cannot be
    compared, for a model that is not theirs, for places without images, and where too many images are unreadable.
    """
    indexes, files = _opened(places)
    opened = list(indexes.values())
    space = _one_space(opened)
    if space is not None and space.kind == "texts" and files:
        raise InputError(f"texts cannot be compared with images: leave out {opened[0].folder}, or {files[0][1]}")
    listing = Listing(how.tell)
    found: list[tuple[list[Item], Array]] = []
    for place, index in indexes.items():  # first, as their files need not be embedded again
        items = listing.of_index(index, place)
        found.append((items, _of_index(index, items)))
    loose = listing.of_files(files)
    listing.finish()
    unreadable = list(listing.unreadable)
    width = space.width if space is not None else 0
    model = space.model if space is not None else ""
    vectors, rows = np.zeros((0, width), np.float16), np.full(len(loose), -1, np.int64)
    if how.opener.given or (loose and space is not None):
        encoder = how.opener(space)
        if space is not None:
            opened[0].check_encoder(encoder, how.model)
        model = model or how.model or encoder.bundle.where
        if len(loose) >= _MANY:
            how.tell(f"the features of {len(loose):,} images are not kept: vitsmith embed keeps them for the next time")
        if loose:
            vectors, rows = _embedded(encoder, loose, unreadable, how.on_step)
    _check_share(unreadable, sum(len(items) for items, _ in found) + len(files), how.skip_unreadable)
    return _joined([*found, (loose, vectors)], rows, opened[0] if opened else None, model, unreadable)


def name_of(model: Model) -> str:
    """The name of a model that a caller gave; empty for what has none."""
    return os.fsdecode(model) if isinstance(model, str | os.PathLike) else ""


def _opened(places: Place | Iterable[Place]) -> tuple[dict[int, Index], list[tuple[int, str]]]:
    """The indexes by the number of their place, and the paths of images, each with that number."""
    listed = [places] if isinstance(places, Index | str | os.PathLike) else list(places)
    if not listed:
        raise InputError("give an index, an image folder or image files")
    indexes: dict[int, Index] = {}
    files: list[tuple[int, str]] = []
    for number, place in enumerate(listed):
        if isinstance(place, Index):
            indexes[number] = place
        elif is_index(folder := path(place, "a place")):
            indexes[number] = open_index(folder)
        elif folder.suffix.lower() in FORMATS and folder.is_file():
            raise InputError(
                f"{folder} holds vectors without their files: give the index folder that  vitsmith embed  writes, or "
                "the images"
            )
        else:
            files += ((number, os.fspath(one)) for one in (_images_in(folder) if folder.is_dir() else (folder,)))
    return indexes, files


def _images_in(folder: Path) -> list[Path]:
    images = survey(folder).images
    if not images:
        raise DatasetError(f"{folder}: no images in this folder, and no index")
    return images


def _one_space(indexes: Sequence[Index]) -> Space | None:
    """The space of all indexes; None for none. Raises InputError for indexes that cannot be compared."""
    for index in indexes:
        check_searchable(index.folder, index.space)
    if not indexes:
        return None
    first = indexes[0]
    for index in indexes[1:]:
        if index.space.kind != first.space.kind:
            raise InputError(
                f"{first.folder} is of {first.space.kind} and {index.folder} of {index.space.kind}: give one kind"
            )
        check_same_model(index.folder, index.space, first.space.identity, first.space.model)
        if index.space.what != first.space.what:
            raise InputError(
                f"{first.folder} holds {first.space.what} features and {index.folder} {index.space.what} ones, which "
                "cannot be compared: embed one of them again with the same --what"
            )
    return first.space


def _of_index(index: Index, items: Sequence[Item]) -> Array:
    """The vectors of an index, all of them where all rows are used: (rows, E), checked."""
    index.verify(available_cores())
    whole = np.empty((len(index), index.space.width), index.space.dtype)
    for part in range(len(index.description.parts)):
        start = int(index.starts[part])
        vectors = index.vectors(part)
        for at in range(0, len(vectors), _ROWS):
            some = vectors[at : at + _ROWS]
            lengths = lengths_of(some)
            wrong = np.flatnonzero(~((lengths <= LONGEST) & (lengths >= SHORTEST)))  # so that NaN is wrong too
            if len(wrong):
                raise index.damaged(start + at + int(wrong[0]))
            whole[start + at : start + at + len(some)] = some
    return whole


def _embedded(
    encoder: Encoder, items: Sequence[Item], unreadable: list[tuple[str, str]], on_step: Step
) -> tuple[Array, Array]:
    """Vectors (R, E) of the images that can be read, and for each item its row, or -1."""
    vectors = np.empty((len(items), encoder.width), np.float16)
    rows = np.full(len(items), -1, np.int64)
    read = 0
    for number, answer in enumerate(encoder.stream(item.path for item in items)):
        if isinstance(answer, Failure):
            unreadable.append((items[number].name, answer.reason))
        else:
            vectors[read], rows[number] = answer[1], read
            read += 1
        on_step("embedding", number + 1, len(items))
    return vectors[:read], rows


def _check_share(unreadable: Sequence[tuple[str, str]], count: int, share: float | None) -> None:
    if not unreadable or share is None or len(unreadable) <= (most := most_unreadable(count, share)):
        return
    raise DatasetError(
        f"{len(unreadable)} of {count} images cannot be read, and `skip_unreadable` {share:g} allows {most} "
        f"({unreadable[0][1]}): replace or remove them, or raise `skip_unreadable`"
    )


def _joined(
    found: Sequence[tuple[Sequence[Item], Array]],
    loose: Array,
    index: Index | None,
    model: str,
    unreadable: Sequence[tuple[str, str]],
) -> Collection:
    """All items in the order of their places, with one array of vectors. `loose` are the rows of the last ones."""
    items = [item for some, _ in found for item in some]
    rows, start = [], 0
    for some, vectors in found[:-1]:
        rows.append(np.fromiter((start + item.position for item in some), np.int64, len(some)))
        start += len(vectors)
    rows.append(np.where(loose >= 0, loose + start, -1))
    order = np.argsort([item.place for item in items], kind="stable")
    filled = [vectors for _, vectors in found if len(vectors)]
    return Collection(
        tuple(items[at] for at in order.tolist()),
        np.concatenate(rows)[order],
        filled[0] if len(filled) == 1 else np.concatenate(filled or [found[-1][1]]),
        index.space.kind if index is not None else "images",
        model,
        index,
        tuple(unreadable),
    )
