"""Batches for training and evaluation: pixels are decoded, cropped and normalised in threads, ahead of their use.

What a batch holds depends on the seed, never on the timing of the threads. Letters: B batch, h, w the model's input.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.data.augment import AugmentSpec, augment
from vitsmith.data.preprocess import load_image, preprocess
from vitsmith.data.samples import Samples
from vitsmith.errors import DatasetError, ImageError
from vitsmith.specs import ImageSpec

_BATCHES_AHEAD = 2
_MOST_THREADS = 16
_TASKS_PER_THREAD = 2  # of one batch: a task for each image would drown small images in bookkeeping


class Batch(NamedTuple):
    """Images and their classes."""

    images: Tensor
    """(B, 3, h, w) float32, normalised as the ImageSpec says."""
    labels: Tensor
    """(B,) int64."""


class Draw(NamedTuple):
    """One image of one pass over the data."""

    epoch: int
    sample: int


Read = Callable[[Draw], NDArray[np.float32]]
Batches = Generator[Batch, None, None]


def training_batches(
    samples: Samples, images: ImageSpec, augmentation: AugmentSpec, *, batch: int, seed: int
) -> Batches:
    """Endless batches of exactly `batch` images; a batch may reach over the end of one pass into the next.

    The order is a function of `seed` and the pass, the crop of an image one of `seed`, the pass and the image. The crop
    is resized as `images` says for whole images, to the full size. Close the generator to end its threads.

    Raises DatasetError that names the file, on reaching an image that cannot be read.
    """
    whole_crop = images.model_copy(update={"resize": "squash", "crop": 1.0})

    def read(draw: Draw) -> NDArray[np.float32]:
        random = np.random.default_rng([seed, draw.epoch, draw.sample])
        return preprocess(augment(samples.image(draw.sample), augmentation, random), whole_crop)

    draws = (
        Draw(epoch, index)
        for epoch in itertools.count()
        for index in epoch_order(len(samples), seed=seed, epoch=epoch).tolist()
    )
    return _load_ahead(samples.labels, draws, read, batch, images.size)


def evaluation_batches(samples: Samples, images: ImageSpec, *, batch: int) -> Batches:
    """Each image once, in order and without augmentation; the last batch may be smaller.

    Raises DatasetError that names the file, on reaching an image that cannot be read.
    """
    draws = (Draw(0, index) for index in range(len(samples)))
    return _load_ahead(
        samples.labels, draws, lambda draw: load_image(samples.sources[draw.sample], images), batch, images.size
    )


def epoch_order(count: int, *, seed: int, epoch: int) -> NDArray[np.intp]:
    """The order in which pass number `epoch` visits `count` images."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _load_ahead(
    labels: NDArray[np.int64], draws: Iterable[Draw], read: Read, batch: int, size: tuple[int, int]
) -> Batches:
    threads = min(os.cpu_count() or 1, _MOST_THREADS)
    share = -(-batch // (_TASKS_PER_THREAD * threads))
    remaining = iter(draws)
    loading: deque[_Loading] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="vitsmith-images")
    try:
        while True:
            while len(loading) <= _BATCHES_AHEAD and (chosen := list(itertools.islice(remaining, batch))):
                loading.append(_Loading(pool, chosen, read, share, size))
            if not loading:
                return
            ready = loading.popleft()
            yield Batch(torch.from_numpy(ready.wait()), torch.from_numpy(labels[ready.indices]))
    except ImageError as error:  # its message begins with the name of the file
        raise DatasetError(f"cannot use the image {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)


class _Loading:
    """One batch in the making: tasks that each write a few of its rows."""

    def __init__(
        self, pool: ThreadPoolExecutor, draws: Sequence[Draw], read: Read, share: int, size: tuple[int, int]
    ) -> None:
        self.indices = [draw.sample for draw in draws]
        self._pixels = np.empty((len(draws), 3, *size), np.float32)
        parts = [slice(at, at + share) for at in range(0, len(draws), share)]
        self._tasks = [pool.submit(_fill, self._pixels[part], draws[part], read) for part in parts]

    def wait(self) -> NDArray[np.float32]:
        for task in self._tasks:
            task.result()
        return self._pixels


def _fill(pixels: NDArray[np.float32], draws: Sequence[Draw], read: Read) -> None:
    for row, draw in zip(pixels, draws, strict=True):
        row[...] = read(draw)
