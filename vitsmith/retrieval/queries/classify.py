"""Classify the images of an index with words, by the vectors that it holds: no image is read. N images, E width."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vitsmith.arrays import Array
from vitsmith.errors import InputError
from vitsmith.predict import Prediction
from vitsmith.retrieval.index import Index, lengths_of
from vitsmith.retrieval.queries.answers import shown_name
from vitsmith.retrieval.search import check_allowed
from vitsmith.zeroshot.classifier import ZeroShotClassifier

_AT_ONCE = 4_096  # images


def check_classifiable(index: Index) -> None:
    """Raise InputError for an index of texts, class tokens or patches: only pooled images compare with words."""
    if index.space.kind != "images":
        raise InputError(f"{index.folder} is an index of texts, and words classify images: give one of images")
    if index.space.what != "pooled":
        held = {"class": "class tokens", "patches": "patches"}[index.space.what]
        raise InputError(
            f"{index.folder} holds {held}, and words compare with the pooled embedding of an image: make another index "
            "with  vitsmith embed --what pooled"
        )


def classify_index(
    classifier: ZeroShotClassifier, index: Index, *, allowed: Array | None = None
) -> Iterator[Prediction]:
    """The predictions for the images of an index in their order, or for those that are `allowed`, bool (N,).

    Their sources open from the present folder: ids, or whole paths where those lead elsewhere. Further files with the
    same content follow each, with the same answer. They are those of `classifier` for the images, but for the rounding
    of vectors that are kept in float16.

    Raises InputError as `check_classifiable`, for an index of another model, and for a damaged one.
    """
    check_classifiable(index)
    root = index.description.root
    index.check_model(classifier.encoder.bundle)
    allowed, _ = check_allowed(index, allowed)
    for part in range(len(index.description.parts)):
        start, end = int(index.starts[part]), int(index.starts[part + 1])
        chosen = np.arange(start, end) if allowed is None else start + np.flatnonzero(allowed[start:end])
        for at in range(0, len(chosen), _AT_ONCE):
            positions = chosen[at : at + _AT_ONCE]
            vectors = index.sound_rows(positions).astype(np.float32)
            unit = (vectors / lengths_of(vectors)[:, None]).astype(np.float32)  # float16 changes lengths a little
            files = zip(index.ids(positions), index.copies(positions), unit, strict=True)
            named = ((shown_name(root, name), row) for one, more, row in files for name in (one, *more))
            yield from classifier.of_vectors(named)
