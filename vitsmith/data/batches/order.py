"""The order in which training visits the images: it depends only on the samples, the seed and the pass."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitsmith.data.sets.samples import Samples


def epoch_order(samples: Samples, *, seed: int, epoch: int, buffer: int = 10_000) -> NDArray[np.intp]:
    """The positions of all samples, each once, in the order of pass number `epoch`; shape (images,).

    Where images lie in shards (`samples.blocks`), the shards are visited in random order and their images pass through
    a shuffle buffer of `buffer` images, as in WebDataset: reading stays close to one shard at a time. Otherwise it is
    an even shuffle. Processes share the order by taking slices of it, so none is lost or repeated.
    """
    random = np.random.default_rng([seed, epoch])
    if samples.blocks is None:
        return random.permutation(len(samples))
    _, shards = np.unique(samples.blocks, return_inverse=True)
    rank = random.permutation(int(shards.max(initial=-1)) + 1)
    stream = np.argsort(rank[shards], kind="stable")
    return _through_buffer(stream, buffer, random)


def _through_buffer(stream: NDArray[np.intp], buffer: int, random: np.random.Generator) -> NDArray[np.intp]:
    """Fill a buffer, yield a random element for each new one, and at the end all that are left."""
    held = stream[:buffer].tolist()
    order = []
    draws = random.integers(max(len(held), 1), size=max(len(stream) - buffer, 0))
    for place, incoming in zip(draws.tolist(), stream[buffer:].tolist(), strict=True):
        order.append(held[place])
        held[place] = incoming
    random.shuffle(held)
    return np.array(order + held, np.intp)
