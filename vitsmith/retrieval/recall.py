"""Recall at k: how often a search finds a right answer, from images to texts and from texts to images.

N images, M texts, E embedding width, P pairs of an image and a text that belong together. NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from vitsmith.arrays import Array
from vitsmith.errors import InputError

Right = Callable[[int, int], Array]
"""Called with (start, stop) of some queries; returns bool (queries, candidates), True for right answers."""

KS = (1, 5, 10)

_SIMILARITIES = 4_194_304  # similarities in memory at once, 16 MiB; never all N x M


@dataclass(frozen=True)
class Recall:
    """Recall in one direction. A query is right at k when any of its right answers is among the first k."""

    queries: int
    """The number of queries with a right answer; queries without one do not count."""
    hits: dict[int, int]
    """k -> number of queries that are right at k."""

    def at(self, k: int) -> float:
        """The share of queries that are right at k, 0 to 1."""
        return self.hits[k] / self.queries


@dataclass(frozen=True)
class Recalls:
    """Both directions."""

    image_to_text: Recall
    text_to_image: Recall


def recalls(images: Array, texts: Array, image_labels: Array, text_labels: Array, *, ks: Sequence[int] = KS) -> Recalls:
    """Recall of images and texts that belong together when their labels are equal.

    Args:
        images: (N, E) unit vectors.
        texts: (M, E) unit vectors.
        image_labels: (N,) integers; `np.arange(N)` for both where row n belongs to row n.
        text_labels: (M,) integers.
        ks: the numbers of first answers that count.

    Of answers with equal scores, the one with the lower position comes first. Memory does not grow with N and M.

    Raises InputError for shapes that do not fit, values that are not finite, and when no image and text belong
    together.
    """
    images, texts = _checked(images, texts)
    image_labels, text_labels = np.asarray(image_labels), np.asarray(text_labels)
    if image_labels.shape != (len(images),) or text_labels.shape != (len(texts),):
        raise InputError(
            f"there must be a label for each of {len(images)} images and {len(texts)} texts, got "
            f"{image_labels.shape} and {text_labels.shape}"
        )

    def of_images(start: int, stop: int) -> Array:
        return image_labels[start:stop, None] == text_labels

    def of_texts(start: int, stop: int) -> Array:
        return text_labels[start:stop, None] == image_labels

    return Recalls(_recall(images, texts, of_images, ks), _recall(texts, images, of_texts, ks))


def recalls_of_pairs(images: Array, texts: Array, pairs: Array, *, ks: Sequence[int] = KS) -> Recalls:
    """Recall of images and texts where an image may belong to several texts and a text to several images.

    `pairs` is (P, 2): the position of an image and of a text. Otherwise as `recalls`.
    """
    images, texts = _checked(images, texts)
    pairs = np.asarray(pairs)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu" or not len(pairs):
        raise InputError(f"pairs must be integers of shape (pairs, 2), at least one, got {pairs.dtype} {pairs.shape}")
    if pairs.min() < 0 or pairs[:, 0].max() >= len(images) or pairs[:, 1].max() >= len(texts):
        raise InputError(f"pairs name positions beyond the {len(images)} images and {len(texts)} texts")
    return Recalls(
        _recall(images, texts, _right_of_pairs(pairs, len(texts)), ks),
        _recall(texts, images, _right_of_pairs(pairs[:, ::-1], len(images)), ks),
    )


def _right_of_pairs(pairs: Array, candidates: int) -> Right:
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]

    def right(start: int, stop: int) -> Array:
        first, last = np.searchsorted(pairs[:, 0], (start, stop))
        mask = np.zeros((stop - start, candidates), np.bool_)
        mask[pairs[first:last, 0] - start, pairs[first:last, 1]] = True
        return mask

    return right


def _recall(queries: Array, candidates: Array, right: Right, ks: Sequence[int]) -> Recall:
    if not ks or min(ks) < 1:
        raise InputError(f"recall cannot be computed at {list(ks)}: give numbers of answers, each at least 1")
    ranks = np.concatenate(list(_ranks(queries, candidates, right)))
    if not len(ranks):
        raise InputError("no image and text belong together, so there is no recall: check the labels or pairs")
    return Recall(len(ranks), {k: int((ranks < k).sum()) for k in ks})


def _ranks(queries: Array, candidates: Array, right: Right) -> Iterator[Array]:
    """Yield, block by block, the number of candidates before the best right one: (queries with a right answer,)."""
    block = max(1, _SIMILARITIES // len(candidates))
    positions = np.arange(len(candidates))
    for start in range(0, len(queries), block):
        stop = min(start + block, len(queries))
        is_right = right(start, stop)
        asked = is_right.any(axis=1)
        scores = queries[start:stop] @ candidates.T
        best_right = np.where(is_right, scores, -np.inf).argmax(axis=1)[:, None]  # the first of equals
        best = np.take_along_axis(scores, best_right, axis=1)
        before = (scores > best) | ((scores == best) & (positions < best_right))
        yield np.count_nonzero(before, axis=1)[asked]


def _checked(images: Array, texts: Array) -> tuple[Array, Array]:
    images, texts = np.asarray(images, np.float32), np.asarray(texts, np.float32)
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or not len(images) or not len(texts):
        raise InputError(
            f"embeddings must be (images, width) and (texts, width), neither empty, got "
            f"{images.shape} and {texts.shape}"
        )
    if not (np.isfinite(images).all() and np.isfinite(texts).all()):  # no score exceeds NaN: every query would be right
        raise InputError("the embeddings hold NaN or infinity: check the model that made them")
    return images, texts
