"""How near two images at random are: what a threshold means for the model and the images at hand.

Letters: N vectors, E width.
"""

from __future__ import annotations

import math

import numpy as np

from vitsmith.arrays import Array

PAIRS = 20_000
FEW = 50
"""Vectors of which there are too few pairs to say anything."""
OFTEN = 0.01
"""The share of random pairs from which on a threshold is doubted: a collection has far fewer duplicates than pairs."""
RARE = 0.001
"""The share that a threshold leaves which is proposed."""


def random_cosines(vectors: Array) -> Array | None:
    """float32 (PAIRS,) of pairs of unit vectors (N, E), always the same pairs; None for fewer than `FEW` vectors."""
    count = len(vectors)
    if count < FEW:
        return None
    random = np.random.default_rng(0)
    first = random.integers(count, size=PAIRS)
    second = (first + random.integers(1, count, size=PAIRS)) % count  # another one
    cosines = np.empty(PAIRS, np.float32)
    for at in range(0, PAIRS, 1000):
        some = slice(at, at + 1000)
        mine, other = (vectors[rows[some]].astype(np.float32) for rows in (first, second))
        cosines[some] = np.einsum("ne,ne->n", mine, other)
    return cosines


def doubt(cosines: Array, threshold: float, kind: str) -> str:
    """What is said of a threshold that many random pairs of images or texts (`kind`) reach; '' for few."""
    share = float(np.mean(cosines >= threshold))
    if share < OFTEN:
        return ""
    proposed = math.ceil(1000 * float(np.quantile(cosines, 1 - RARE))) / 1000
    more = f", or give a higher `threshold` ({proposed:g} leaves {RARE:.1%})" if threshold < proposed < 1 else ""
    return (
        f"{share:.1%} of all pairs of {kind} have a cosine of at least {threshold:g} by this model, too many to be "
        f"duplicates: the groups hold other {kind} too; look at a sheet{more}"
    )
