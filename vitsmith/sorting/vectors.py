"""Vectors of what is sorted: read from an index, or made of images now."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import Photo
from vitsmith.encode import SHORTEST, Encoder
from vitsmith.machine import available_cores
from vitsmith.retrieval.index import LONGEST, Index, lengths_of
from vitsmith.sorting.items import Item
from vitsmith.stream import Failure

Step = Callable[[str, int, int], None]
"""Called with what is done ('embedding', 'comparing'), how much of it is done, and how much there is."""
_ROWS = 4_096  # vectors that are checked at once


@dataclass(frozen=True)
class EmbeddedItems:
    """Items with their vectors."""

    items: Sequence[Item]
    vectors: Array
    """(R, E) float16 or float32, unit vectors."""
    rows: Array
    """int64 (items,): the place of each item's vector in `vectors`; -1 for none."""


def without_vectors(items: Sequence[Item]) -> EmbeddedItems:
    return EmbeddedItems(items, np.zeros((0, 0), np.float16), np.full(len(items), -1, np.int64))


def of_index(index: Index, items: Sequence[Item]) -> EmbeddedItems:
    """Items of an index, with all of its vectors. Raises InputError for one that is damaged."""
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
    return EmbeddedItems(items, whole, np.fromiter((item.position for item in items), np.int64, len(items)))


def of_images(
    encoder: Encoder, items: Sequence[Item], unreadable: list[tuple[str, str]], on_step: Step = lambda *_: None
) -> EmbeddedItems:
    """Images that are embedded now; `unreadable` gets those that cannot be.

    Each file is read once: its hash and the size of its picture are of the bytes that are embedded.
    """
    photos = deque[Photo]()

    def read_ahead() -> Iterator[Photo]:
        for item in items:
            photos.append(Photo(item.path))
            yield photos[-1]

    vectors = np.empty((len(items), encoder.width), np.float16)
    rows = np.full(len(items), -1, np.int64)
    known, count = [], 0
    for number, answer in enumerate(encoder.stream(read_ahead())):
        known.append(_as_read(items[number], photos.popleft()))
        if isinstance(answer, Failure):
            unreadable.append((items[number].name, answer.reason))
        else:
            vectors[count], rows[number] = answer[1], count
            count += 1
        on_step("embedding", number + 1, len(items))
    return EmbeddedItems(known, vectors[:count], rows)


def _as_read(item: Item, photo: Photo) -> Item:
    """The item with what is known of its file since that was read; as it was where it could not be read."""
    state, facts = photo.state, photo.facts
    if state is None or not facts:
        return item
    width, height = facts["width"] or 0, facts["height"] or 0
    size, modified, digest = facts["bytes"], state.modified, state.digest
    return replace(item, size=size, modified=modified, digest=digest, width=width, height=height)
