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
from vitsmith.encode import Encoder
from vitsmith.errors import DatasetError, InputError
from vitsmith.retrieval.description import Space, check_same_model, check_searchable, is_index
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.single_file import FORMATS
from vitsmith.sorting.items import Item, Listing
from vitsmith.sorting.vectors import EmbeddedItems, Step, of_images, of_index, without_vectors

Place = Index | str | os.PathLike[str]
"""An index or its folder, an image folder, or an image file."""
Model = Any
"""An `Encoder`, a bundle, or anything `vitsmith.load` takes."""
_MANY = 1_000
"""Images from which on it is worth a remark that their features are not kept."""


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


@dataclass(frozen=True)
class OpenedPlaces:
    """Places whose items are known, and nothing is embedded yet: what is wrong with them is told at this point."""

    how: Gathering
    indexes: tuple[tuple[Index, tuple[Item, ...]], ...]
    """Each with its items."""
    loose: tuple[Item, ...]
    """Images that are in no index."""
    missing: tuple[tuple[str, str], ...]
    """(name, reason) of those that are not there or are empty."""

    @property
    def index(self) -> Index | None:
        """The first of the indexes, which all hold the same."""
        return self.indexes[0][0] if self.indexes else None

    @property
    def kind(self) -> str:
        """'images' or 'texts'."""
        return self.index.space.kind if self.index is not None else "images"

    @property
    def embeds(self) -> bool:
        """Whether items get vectors: there is an index, or a model was given."""
        return self.index is not None or self.how.opener.given

    @property
    def count(self) -> int:
        """Items; some of the images may turn out to be unreadable."""
        return sum(len(items) for _, items in self.indexes) + len(self.loose)

    def open_encoder(self) -> Encoder:
        """The encoder of the model that was given, or of the indexes. Raises InputError for one that is not theirs."""
        encoder = self.how.opener(self.index.space if self.index is not None else None)
        if self.index is not None:
            self.index.check_encoder(encoder, self.how.model)
        return encoder

    def embed(self) -> Collection:
        """All items with their vectors: those of the indexes, and those of the other images, which are embedded now.

        Raises InputError for a damaged index and for a model that is not that of the indexes, DatasetError where too
        many images are unreadable.
        """
        how, index = self.how, self.index
        model = index.space.model if index is not None else ""
        unreadable = list(self.missing)
        found = [of_index(one, items) for one, items in self.indexes]
        images = without_vectors(self.loose)
        if how.opener.given or (self.loose and index is not None):
            encoder = self.open_encoder()
            model = model or how.model or encoder.bundle.where
            if (count := len(self.loose)) >= _MANY:
                how.tell(f"the features of {count:,} images are not kept: vitsmith embed keeps them for the next time")
            if count:
                images = of_images(encoder, self.loose, unreadable, how.on_step)
        _check_share(unreadable, self.count + len(self.missing), how.skip_unreadable)
        return _joined([*found, images], self.kind, model, unreadable)


def open_places(places: Place | Iterable[Place], how: Gathering) -> OpenedPlaces:
    """Finds the items of all places, each file once.

    Images that are in no index are embedded later, by the model of `how`, or without one by that of the indexes. Raises
    InputError for indexes that cannot be compared, and for places without images.
    """
    indexes, files = _opened(places)
    opened = list(indexes.values())
    space = _one_space(opened)
    if space is not None and space.kind == "texts" and files:
        raise InputError(f"texts cannot be compared with images: leave out {opened[0].folder}, or {files[0][1]}")
    listing = Listing(how.tell)
    # The indexes first, as their files need not be embedded again.
    found = [(index, tuple(listing.of_index(index, place))) for place, index in indexes.items()]
    loose = listing.of_files(files)
    listing.finish()
    return OpenedPlaces(how, tuple(found), tuple(loose), tuple(listing.unreadable))


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


def _check_share(unreadable: Sequence[tuple[str, str]], count: int, share: float | None) -> None:
    if not unreadable or share is None or len(unreadable) <= (most := most_unreadable(count, share)):
        return
    raise DatasetError(
        f"{len(unreadable)} of {count} images cannot be read, and `skip_unreadable` {share:g} allows {most} "
        f"({unreadable[0][1]}): replace or remove them, or raise `skip_unreadable`"
    )


def _joined(found: Sequence[EmbeddedItems], kind: str, model: str, unreadable: Sequence[tuple[str, str]]) -> Collection:
    """All items in the order of their places, with one array of vectors.

    It has the least exact of their types, so that an image has the same vector in indexes of float16 and of float32.
    """
    items = [item for one in found for item in one.items]
    starts = np.cumsum([0, *(len(one.vectors) for one in found)])
    rows = np.concatenate([np.where(one.rows >= 0, one.rows + at, -1) for one, at in zip(found, starts, strict=False)])
    order = np.argsort([item.place for item in items], kind="stable")
    filled = [one.vectors for one in found if len(one.vectors)] or [found[-1].vectors]
    least = min((vectors.dtype for vectors in filled), key=lambda kind: kind.itemsize)
    return Collection(
        tuple(items[at] for at in order.tolist()),
        rows[order],
        filled[0] if len(filled) == 1 else np.concatenate(filled, dtype=least, casting="same_kind"),
        kind,
        model,
        tuple(unreadable),
    )
