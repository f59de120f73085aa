"""Groups of near vectors that do not chain: every member is near the first of its group.

Vectors are taken in the order in which they are preferred. One that is near no leader before it is a leader itself; the
others join the nearest of the leaders before them. So a group a, b where c is near b but not near a does not get c.

All pairs of leaders and later vectors are compared, in float32 tiles by NumPy's matrix product; those scores only
choose: what lies within the rounding error of the threshold, or of the best, is computed again in float64. So tiles,
threads and libraries change nothing. Memory is that of the tiles: no pair is kept. Letters: N vectors, E width.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import ThreadpoolController

from vitsmith.arrays import Array
from vitsmith.retrieval.index import LONGEST
from vitsmith.retrieval.search import as_float32, exact_scores

TILE = 2_048
"""Vectors in a tile of leaders, and in a piece of later vectors: their scores take 16 MiB in each thread."""


@dataclass(frozen=True)
class Led:
    """Which leader each vector has, itself where it leads; and the cosine with it."""

    leaders: Array
    """int64 (N,)."""
    scores: Array
    """float32 (N,), 1 for leaders."""


def count_steps(count: int) -> int:
    """How often `lead` calls `on_step` for so many vectors."""
    tiles = -(-count // TILE)
    return tiles * (tiles + 1) // 2


def lead(vectors: Array, threshold: float, *, threads: int = 1, on_step: Callable[[int], None] = lambda _: None) -> Led:
    """Groups unit vectors (N, E), float16 or float32, in the order of preference.

    Two are near where their dot product, summed in float64 and rounded to float32, is at least `threshold`. `on_step`
    is called with the number of pieces that are done, of `count_steps`.
    """
    count = len(vectors)
    limit = np.float32(threshold)
    led = Led(np.full(count, -1, np.int64), np.full(count, -np.inf, np.float32))
    with (
        ThreadpoolController().limit(limits=1, user_api="blas"),  # each thread has pieces of its own
        ThreadPoolExecutor(max(threads, 1), thread_name_prefix="near") as pool,
    ):
        for start in range(0, count, TILE):
            leaders = _lead_tile(vectors, start, led, limit)
            on_step(1)
            pieces = range(start + TILE, count, TILE)
            if len(leaders):
                tile = _converted(vectors[leaders])
                for _ in pool.map(lambda at, of=leaders, by=tile: _follow(vectors, at, of, by, led, limit), pieces):
                    on_step(1)
            else:
                on_step(len(pieces))
    return led


def _lead_tile(vectors: Array, start: int, led: Led, limit: np.float32) -> Array:
    """Finds the leaders in a tile, and lets the others of the tile join; returns the leaders' positions."""
    given = vectors[start : start + TILE]
    tile = _converted(given)
    coarse = tile @ tile.T
    near: Array = np.triu(coarse >= limit - _rounding(tile.shape[1]), 1)  # only later ones
    some = np.asarray(near.any(axis=1))
    found = []
    for at in range(len(tile)):
        if led.leaders[start + at] >= 0:
            continue
        led.leaders[start + at], led.scores[start + at] = start + at, 1
        found.append(start + at)
        if not some[at]:
            continue
        later = np.flatnonzero(near[at])
        scores = exact_scores(given[later], given[at].astype(np.float64)[None])
        places = start + later
        joins: Array = (scores >= limit) & (scores > led.scores[places])
        led.leaders[places[joins]], led.scores[places[joins]] = start + at, scores[joins]
    return np.array(found, np.int64)


def _follow(vectors: Array, start: int, leaders: Array, tile: Array, led: Led, limit: np.float32) -> None:
    """Lets the vectors of one piece join the nearest of the leaders of a tile, whose vectors are `tile`."""
    given = vectors[start : start + TILE]
    coarse = _converted(given) @ tile.T
    error = _rounding(tile.shape[1])
    best = coarse.max(axis=1)
    rows = np.flatnonzero((best >= limit - error) & (best >= led.scores[start : start + TILE] - error))
    at, which = np.nonzero(coarse[rows] >= np.maximum(best[rows] - 2 * error, limit - error)[:, None])
    for chosen in range(0, len(at), TILE):
        mine, whose = rows[at[chosen : chosen + TILE]], leaders[which[chosen : chosen + TILE]]
        scores = exact_scores(given[mine], vectors[whose].astype(np.float64))
        order = np.lexsort((whose, -scores))  # the best of each first, among equal ones the earlier leader
        for row, leader, score in zip(mine[order].tolist(), whose[order].tolist(), scores[order], strict=True):
            if score >= limit and score > led.scores[start + row]:
                led.leaders[start + row], led.scores[start + row] = leader, score


def _converted(vectors: Array) -> Array:
    return as_float32(vectors, np.empty(vectors.shape, np.float32))


def _rounding(width: int) -> np.float32:
    """The largest error of a float32 dot product of vectors no longer than `LONGEST`: see `retrieval/search.py`."""
    terms = (width + 4) * 2.0**-24
    return np.float32(LONGEST**2 * terms / (1 - terms))
