"""Batches for training and evaluation: images are decoded and cropped in threads, ahead of their use.

A batch depends on the seed alone, not on the timing of the threads, nor on how many processes share the work. Letters:
B images of a batch in this process, h, w the model's input, K classes.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitsmith.data.augment.crops import read_crop
from vitsmith.data.augment.settings import AugmentSpec
from vitsmith.data.batches.order import epoch_order
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.images.unreadable import Unreadable
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import ConfigError, DatasetError, ImageError
from vitsmith.machine import available_cores
from vitsmith.specs import ImageSpec

_BATCHES_AHEAD = 2
_MOST_THREADS = 16
_TASKS_PER_THREAD = 2  # for each batch: one task for each image would cost more than reading small images
_SEEDS = 2**63  # what fits into int64

Pixel = TypeVar("Pixel", np.uint8, np.float32)


class Crops(NamedTuple):
    """Training images as they come from the files: cropped to the model's size, nothing else."""

    images: Tensor
    """(B, h, w, 3) uint8."""
    labels: Tensor
    """(B,) int64."""
    seeds: Tensor
    """(B,) int64, not negative: the seed of each image for the augmentation on the device."""


class Batch(NamedTuple):
    """Images and their classes, ready for the model."""

    images: Tensor
    """(B, 3, h, w) float32, normalised as the ImageSpec says."""
    labels: Tensor
    """(B,) int64, or (B, K) float32 probabilities."""


class Held(NamedTuple):
    """Images to evaluate on, ready for the model."""

    images: Tensor
    """(B, 3, h, w) float32, normalised as the ImageSpec says."""
    labels: Tensor
    """(B,) int64."""
    indices: Tensor
    """(B,) int64: positions in the samples."""


class Draw(NamedTuple):
    """One image of one pass over the data."""

    epoch: int
    sample: int


def ignore(complaint: str) -> None:
    """Ignore an unreadable file."""


def training_batches(
    samples: Samples,
    images: ImageSpec,
    augment: AugmentSpec,
    *,
    batch: int,
    seed: int,
    start: int = 0,
    part: int = 0,
    parts: int = 1,
    skip_unreadable: float = 0.0,
    threads: int | None = None,
    on_unreadable: Callable[[str], None] = ignore,
) -> Generator[Crops]:
    """Yield batches of `batch` images without end, from number `start` on; this process gets `batch / parts` of each.

    The passes over the data follow each other without a gap: put end to end they are one endless row of images, and
    batch number s begins at image s * batch of it. Each batch is cut into `parts` slices of neighbours; this process
    gets slice number `part`, counted from 0. The order depends on `seed` and the pass; the crop and the seed of an
    image depend on `seed`, the pass and the image. So a start at a later batch reads nothing before it, and any number
    of processes sees the same batches. Threads read at most two batches ahead; close the generator to end them.

    An image that cannot be read is replaced by the next readable one of the data set, with the label of that one.
    `on_unreadable` is called once for each such file, when its batch is yielded.

    Raises ConfigError when `batch` cannot be cut into `parts`; DatasetError when there are no images, and as soon as
    more than the share `skip_unreadable` of all images is unreadable: by default at the first.
    """
    if batch < 1 or parts < 1 or batch % parts:
        raise ConfigError(f"a batch of {batch} images cannot be shared evenly by {parts} processes: change one of them")
    if not len(samples):
        raise DatasetError("there are no images to train on")
    unreadable = Unreadable(samples.names, skip_unreadable, on_unreadable)

    def read(draw: Draw, row: NDArray[np.uint8]) -> _Read:
        complaints = []
        for index in unreadable.candidates(draw.sample):
            random = np.random.default_rng([seed, draw.epoch, draw.sample])
            chance = int(random.integers(_SEEDS))
            try:
                row[...] = read_crop(samples.sources[index], images, augment, random)
            except ImageError as error:
                complaints.append((index, str(error)))
            else:
                return _Read(index, chance, tuple(complaints))
        return _Read(None, chance, tuple(complaints))

    draws = training_draws(samples, batch, seed, start, part, parts)
    return _crops(samples, _load_ahead(draws, read, (*images.size, 3), np.uint8, threads), unreadable)


def evaluation_batches(
    samples: Samples,
    images: ImageSpec,
    *,
    batch: int,
    part: int = 0,
    parts: int = 1,
    skip_unreadable: float = 0.0,
    threads: int | None = None,
    on_unreadable: Callable[[str], None] = ignore,
) -> Generator[Held]:
    """Yield each image once, in order, exactly as `load_image` preprocesses it; the last batch may be smaller.

    With `parts`, the samples are cut into that many slices of neighbours, and only slice number `part`, counted from 0,
    is read. An image that cannot be read is left out of its batch, which may then be empty: `on_unreadable` is called.

    Raises DatasetError as `training_batches`.
    """
    unreadable = Unreadable(samples.names, skip_unreadable, on_unreadable)

    def read(draw: Draw, row: NDArray[np.float32]) -> _Read:
        try:
            row[...] = load_image(samples.sources[draw.sample], images)
        except ImageError as error:
            return _Read(None, 0, ((draw.sample, str(error)),))
        return _Read(draw.sample, 0, ())

    first, end = part_of(len(samples), part, parts)
    draws = ([Draw(0, index) for index in range(at, min(at + batch, end))] for at in range(first, end, batch))
    return _held(samples, _load_ahead(draws, read, (3, *images.size), np.float32, threads), unreadable)


def part_of(count: int, part: int, parts: int) -> tuple[int, int]:
    """The begin and end of slice number `part` of `parts`; the lengths of slices differ by at most one."""
    return part * count // parts, (part + 1) * count // parts


def training_draws(
    samples: Samples, batch: int, seed: int, start: int, part: int, parts: int
) -> Iterator[Sequence[Draw]]:
    """Yield the images that `training_batches` takes, batch by batch, without end; nothing is read."""

    @lru_cache(maxsize=2)
    def order(epoch: int) -> NDArray[np.intp]:
        return epoch_order(samples, seed=seed, epoch=epoch)

    share = batch // parts
    for number in itertools.count(start):
        first = number * batch + part * share
        places = (divmod(place, len(samples)) for place in range(first, first + share))
        yield [Draw(epoch, int(order(epoch)[place])) for epoch, place in places]


def _crops(samples: Samples, loaded: Generator[_Loading[np.uint8]], unreadable: Unreadable) -> Generator[Crops]:
    try:
        for loading in loaded:
            reads = loading.wait(unreadable)
            indices = [read.used for read in reads if read.used is not None]  # none is missing: `wait` raised
            seeds = torch.tensor([read.seed for read in reads], dtype=torch.int64)
            yield Crops(torch.from_numpy(loading.pixels), torch.from_numpy(samples.labels[indices]), seeds)
    finally:
        loaded.close()


def _held(samples: Samples, loaded: Generator[_Loading[np.float32]], unreadable: Unreadable) -> Generator[Held]:
    try:
        for loading in loaded:
            used = [read.used for read in loading.wait(unreadable)]
            indices = np.array([index for index in used if index is not None], np.int64)
            there = [row for row, index in enumerate(used) if index is not None]
            pixels = loading.pixels if len(there) == len(used) else loading.pixels[there]
            yield Held(torch.from_numpy(pixels), torch.from_numpy(samples.labels[indices]), torch.from_numpy(indices))
    finally:
        loaded.close()


class _Read(NamedTuple):
    """The result of reading one draw."""

    used: int | None
    """The sample whose pixels these are; None when no sample could be read."""
    seed: int
    complaints: tuple[tuple[int, str], ...]
    """Samples that could not be read, each with the reason."""


_Reader = Callable[[Draw, NDArray[Pixel]], _Read]


def _load_ahead(
    draws: Iterator[Sequence[Draw]],
    read: _Reader[Pixel],
    shape: tuple[int, ...],
    dtype: type[Pixel],
    threads: int | None,
) -> Generator[_Loading[Pixel]]:
    workers = threads or min(available_cores(), _MOST_THREADS)
    loading: deque[_Loading[Pixel]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="vitsmith-images")
    try:
        while True:
            for chosen in itertools.islice(draws, _BATCHES_AHEAD + 1 - len(loading)):
                pixels: NDArray[Pixel] = np.empty((len(chosen), *shape), dtype)
                loading.append(_Loading(pool, chosen, read, pixels, workers))
            if not loading:
                return
            yield loading.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


class _Loading(Generic[Pixel]):
    """One batch that is being loaded, by tasks that each write a few of its rows."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        draws: Sequence[Draw],
        read: _Reader[Pixel],
        pixels: NDArray[Pixel],
        workers: int,
    ) -> None:
        self.pixels: NDArray[Pixel] = pixels
        share = -(-len(draws) // (_TASKS_PER_THREAD * workers))
        slices = [slice(at, at + share) for at in range(0, len(draws), share)]
        self._tasks = [pool.submit(_fill, pixels[rows], draws[rows], read) for rows in slices]

    def wait(self, unreadable: Unreadable) -> list[_Read]:
        """Wait for all draws and return their results. Raises DatasetError when too many files are unreadable."""
        reads = [read for task in self._tasks for read in task.result()]
        for read in reads:
            for index, complaint in read.complaints:
                unreadable.add(index, complaint)
        return reads


def _fill(pixels: NDArray[Pixel], draws: Sequence[Draw], read: _Reader[Pixel]) -> list[_Read]:
    return [read(draw, row) for row, draw in zip(pixels, draws, strict=True)]
