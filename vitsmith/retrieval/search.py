"""Exact search for the nearest vectors of an index; memory does not grow with the size of the index.

Q queries, N vectors, R rows of a block, E embedding width, K answers.

Every row is converted to float32 in a small block that stays in the processor's cache, and scored there by a matrix
product of NumPy. The rounding of these scores depends on the library and the block, so they only choose candidates:
rows within the rounding error of the best K are scored again in float64, and only those scores rank them. So no block
size, thread or library changes the answer.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import ThreadpoolController

from vitsmith.arguments import MOST_THREADS, named_arguments, whole_number
from vitsmith.arrays import Array
from vitsmith.errors import InputError, shown
from vitsmith.machine import available_cores
from vitsmith.retrieval.description import check_searchable
from vitsmith.retrieval.index import LONGEST, Index, lengths_of

_CONVERTED = 262_144
"""Numbers in a block of float32: 1 MiB, small enough to stay in the cache between steps, and large enough that threads
seldom wait for each other: with 64 Ki a search took a third more processor time."""
_SIGN_AND_REST = np.int32(-0x70000001)  # all bits of a float32 except the upper three of its exponent
_CHUNK = 4_096  # rows between two choices of candidates
_QUERIES = 256  # queries at once: their scores for one chunk take 4 MiB
_ROUNDED = 0.01  # largest difference from 1 of the length of a query: float16 is off by 0.0005, bfloat16 by 0.004
_RESCORED = 2_048  # candidates at once: 12 MiB for 768 numbers each in float64
_one_at_a_time = threading.Lock()
"""A search limits the threads of NumPy's library for the whole process, and sets them back at its end."""


@dataclass(frozen=True)
class Found:
    """The nearest vectors of some queries, best first; among equal scores the lower position comes first."""

    scores: Array
    """float32 (Q, K): cosines, exact to the last bit of float32."""
    positions: Array
    """int64 (Q, K): positions in the index."""


@named_arguments
def search(
    index: Index, queries: Array, count: int = 10, *, allowed: Array | None = None, threads: int | None = None
) -> Found:
    """The `count` nearest vectors of each query, or all when the index has fewer.

    It may be called from several threads: they take turns, as each search uses all cores.

    Args:
        index: N vectors of length 1 at most.
        queries: (Q, E) unit vectors.
        count: K.
        allowed: bool (N,), the vectors that may be answers; by default all. Scores do not depend on it.
        threads: by default one for each core.

    Raises InputError for queries of another width or length, or with values that are not finite, and for a damaged
    index: its vectors do not have their recorded hash (see `open_index`), a score is impossible for unit vectors, or
    the vector of an answer is too long.
    """
    queries = check_queries(index, queries, count)
    allowed, most = check_allowed(index, allowed)
    workers = available_cores() if threads is None else whole_number(threads, "threads", most=MOST_THREADS)
    index.verify(workers)
    count = min(count, most)
    if not (len(queries) and count):
        return Found(np.zeros((len(queries), count), np.float32), np.zeros((len(queries), count), np.int64))
    found = [
        _search(_Chunks(index, allowed), queries[at : at + _QUERIES], count, workers)
        for at in range(0, len(queries), _QUERIES)
    ]
    positions = np.concatenate([one.positions for one in found])
    answers = np.unique(positions)
    for at in range(0, len(answers), _RESCORED):
        index.sound_rows(answers[at : at + _RESCORED])
    return Found(np.concatenate([one.scores for one in found]), positions)


def check_allowed(index: Index, allowed: Array | None) -> tuple[Array | None, int]:
    """`allowed` (N,), None where all are, and how many vectors may be answers. Raises InputError."""
    if allowed is None:
        return None, len(index)
    if not isinstance(allowed, np.ndarray) or allowed.dtype != np.bool_ or allowed.shape != (len(index),):
        raise InputError(f"`allowed` must be an array of True and False, one for each of the {len(index):,} vectors")
    most = int(np.count_nonzero(allowed))
    return (None if most == len(index) else allowed), most


def check_queries(index: Index, queries: Array, count: int) -> Array:
    """`queries` as float32 (Q, E). Raises InputError."""
    check_searchable(index.folder, index.space)
    try:
        queries = np.ascontiguousarray(queries, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"queries must be an array of numbers, not {shown(queries)}") from None
    if queries.ndim != 2 or queries.shape[1] != index.space.width:
        raise InputError(f"queries must be (queries, {index.space.width}), got {queries.shape}: use the index's model")
    if not np.isfinite(queries).all():
        raise InputError("a query holds NaN or infinity: check the model that made it")
    lengths = lengths_of(queries)
    wrong = np.flatnonzero(np.abs(lengths - 1) > _ROUNDED)
    if len(wrong):
        raise InputError(
            f"query {wrong[0] + 1} has length {lengths[wrong[0]]:.4g}, and scores are cosines only for unit vectors: "
            "divide it by its length"
        )
    whole_number(count, "the number of answers")
    return queries


class _Piece(NamedTuple):
    """Rows of a part, in order."""

    start: int
    """The position of the first."""
    vectors: Array
    """(R, E)."""
    offsets: Array | None = None
    """(R,): their positions behind `start`, where rows between them are left out."""

    def position(self, rows: Any) -> Any:
        return self.start + (rows if self.offsets is None else self.offsets[rows])


class _Chunks:
    """An iterator over pieces of the parts, which several threads share; only rows that are `allowed`."""

    def __init__(self, index: Index, allowed: Array | None) -> None:
        self.index, self._allowed = index, allowed
        self._pieces = self._cut([index.vectors(part) for part in range(len(index.starts) - 1)])
        self._lock = threading.Lock()

    def _cut(self, parts: list[Array]) -> Iterator[_Piece]:
        start = 0
        for part in parts:
            for at in range(0, len(part), _CHUNK):
                piece = _Piece(start + at, part[at : at + _CHUNK])
                if self._allowed is None or self._allowed[piece.start : piece.start + len(piece.vectors)].any():
                    yield piece
            start += len(part)

    def _chosen(self, piece: _Piece) -> _Piece:
        if self._allowed is None:
            return piece
        offsets = np.flatnonzero(self._allowed[piece.start : piece.start + len(piece.vectors)])
        return _Piece(piece.start, piece.vectors[offsets], offsets)

    def __iter__(self) -> Iterator[_Piece]:
        while True:
            with self._lock:
                piece = next(self._pieces, None)
            if piece is None:
                return
            yield self._chosen(piece)


def _search(chunks: _Chunks, queries: Array, count: int, threads: int) -> Found:
    # Each thread has its own blocks. To split every small product over all cores would cost more than the product.
    with (
        _one_at_a_time,
        _products().limit(limits=1, user_api="blas"),
        ThreadPoolExecutor(threads, thread_name_prefix="search") as pool,
    ):
        working = [pool.submit(_nearest_of, chunks, queries, count) for _ in range(threads)]
        nearest = working[0].result()
        for other in working[1:]:
            nearest.merge(other.result())
    return nearest.found()


@functools.cache
def _products() -> ThreadpoolController:
    """The libraries that multiply matrices for NumPy, to limit their threads."""
    return ThreadpoolController()


def _nearest_of(chunks: _Chunks, queries: Array, count: int) -> _Nearest:
    nearest = _Nearest(queries, count)
    limits = _limits(queries)
    rows = max(1, _CONVERTED // queries.shape[1])
    block = np.empty((rows, queries.shape[1]), np.float32)
    scores = np.empty((_CHUNK, len(queries)), np.float32)
    for piece in chunks:
        vectors = piece.vectors
        for at in range(0, len(vectors), rows):
            some = as_float32(vectors[at : at + rows], block)
            np.matmul(some, queries.T, out=scores[at : at + len(some)])
        coarse = scores[: len(vectors)]
        damaged = _first_beyond(coarse, limits)
        if damaged is not None:
            raise chunks.index.damaged(int(piece.position(damaged)))
        nearest.take(piece, coarse)
    return nearest


def as_float32(vectors: Array, block: Array) -> Array:
    """`vectors` (R, E), float16 or float32, as float32; float16 is converted into `block`, which has at least R rows.

    NumPy converts float16 one number at a time. Here four passes over the cache convert many at once, ten times as fast
    and exactly: sign, exponent and fraction move to their places in float32, and a factor of 2^112 makes up for the
    difference of the exponent biases, for subnormal numbers too. Infinity and NaN would become numbers from 65,536 on,
    and are set to NaN.
    """
    if vectors.dtype != np.float16:
        return vectors
    converted = block[: len(vectors)]
    bits, given = converted.view(np.int32), vectors.view(np.int16)
    np.copyto(bits, given)
    np.left_shift(bits, np.int32(13), out=bits)
    np.bitwise_and(bits, _SIGN_AND_REST, out=bits)
    np.multiply(converted, np.float32(2.0**112), out=converted)
    flat = converted.ravel()
    if np.vdot(flat, flat) >= 65_536.0**2:
        converted[~np.isfinite(vectors)] = np.nan
    return converted


class _Nearest:
    """The best K of each query among the rows seen so far, scored exactly."""

    def __init__(self, queries: Array, count: int) -> None:
        self._queries = queries.astype(np.float64)
        self._count = count
        self._scores = np.full((len(queries), count), -np.inf, np.float32)
        self._positions = np.full((len(queries), count), np.iinfo(np.int64).max)
        self._error = _rounding(queries)

    def take(self, piece: _Piece, scores: Array) -> None:
        """Take in the rows of a piece; their float32 `scores` (R, Q) may be rounded."""
        # The K-th best score so far: rows that are certainly worse are dropped.
        lowest = self._scores[:, -1] - self._error
        chosen = scores >= lowest
        if np.count_nonzero(chosen) > 8 * self._count * len(self._queries) and len(scores) > self._count:
            # Too many: rows that are certainly worse than K others of this piece are dropped too.
            kth = np.partition(scores, len(scores) - self._count, axis=0)[len(scores) - self._count]
            chosen = scores >= np.maximum(lowest, kth - 2 * self._error)
        queries, rows = np.nonzero(chosen.T)  # sorted by query
        for at in range(0, len(rows), _RESCORED):
            query, row = queries[at : at + _RESCORED], rows[at : at + _RESCORED]
            self._add(query, piece.position(row), exact_scores(piece.vectors[row], self._queries[query]))

    def merge(self, other: _Nearest) -> None:
        """Take over the results of another thread."""
        queries = np.repeat(np.arange(len(self._queries)), self._count)
        self._add(queries, other._positions.ravel(), other._scores.ravel())

    def found(self) -> Found:
        return Found(self._scores, self._positions)

    def _add(self, queries: Array, positions: Array, scores: Array) -> None:
        for query in np.unique(queries).tolist():
            mine = queries == query
            all_scores = np.concatenate([self._scores[query], scores[mine]])
            all_positions = np.concatenate([self._positions[query], positions[mine]])
            best = np.lexsort((all_positions, -all_scores))[: self._count]
            self._scores[query], self._positions[query] = all_scores[best], all_positions[best]


def exact_scores(vectors: Array, queries: Array) -> Array:
    """Dot products row by row: (P, E) and float64 (P, E) -> float32 (P,).

    A product of two float32 is exact in float64, and the error of the sum of E products is below the precision of
    float32; equal vectors get equal scores at every position.
    """
    products = np.multiply(vectors, queries, dtype=np.float64)
    return products.sum(axis=1).astype(np.float32)


def _rounding(queries: Array) -> Array:
    """(Q,): the largest error of a float32 score, for vectors no longer than `LONGEST`.

    A dot product of E terms in float32, in any order of summation, is off by at most E u / (1 - E u) times the lengths
    of both vectors, u = 2^-24 (N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Four
    more u are for the rounding of exact scores and of this bound.
    """
    terms = (queries.shape[1] + 4) * 2.0**-24
    bound: Array = (LONGEST * terms / (1 - terms) * lengths_of(queries)).astype(np.float32)
    return bound


def _limits(queries: Array) -> Array:
    """float64 (Q,): the upper bound of float32 scores, for vectors no longer than `LONGEST`, by Cauchy and Schwarz."""
    limits: Array = LONGEST * lengths_of(queries) + _rounding(queries)
    return limits


def _first_beyond(scores: Array, limits: Array) -> int | None:
    """The first row of `scores` (R, Q) with a score beyond `limits` (Q,) or NaN; None when there is none."""
    if (scores.max(axis=0) <= limits).all() and (scores.min(axis=0) >= -limits).all():  # neither is true of NaN
        return None
    return int(np.argmin((np.abs(scores) <= limits).all(axis=1)))
