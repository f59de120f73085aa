"""Batches: decided by the seed alone, each image as often as it should be, and no thread left over."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from PIL import Image

from vitsmith.data.augment import AugmentSpec, augment
from vitsmith.data.batches import Batch, epoch_order, evaluation_batches, training_batches
from vitsmith.data.preprocess import preprocess
from vitsmith.data.samples import Samples
from vitsmith.errors import DatasetError
from vitsmith.specs import ImageSpec

COUNT = 7
SPEC = ImageSpec.original(6)


class SlowSources(list):
    """Images that take their time, each a different one, so that threads finish out of order."""

    def __getitem__(self, index):
        time.sleep(0.002 * ((index * 5) % 7))
        return super().__getitem__(index)


def numbered(sources: type[list] = list) -> Samples:
    """Images of noise; the label of an image is its number."""
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 9, 12, 3)).astype(np.uint8)
    names = [str(index) for index in range(COUNT)]
    return Samples(tuple(names), sources(noise), names, np.arange(COUNT, dtype=np.int64))


def first_batches(samples: Samples, *, batch: int, count: int, seed: int = 3) -> list[Batch]:
    with closing(training_batches(samples, SPEC, AugmentSpec(), batch=batch, seed=seed)) as batches:
        return list(itertools.islice(batches, count))


def test_each_image_comes_once_a_pass_and_batches_run_over_its_end() -> None:
    batches = first_batches(numbered(), batch=4, count=7)  # 28 images: four passes
    assert [tuple(batch.images.shape) for batch in batches] == [(4, 3, 6, 6)] * 7
    labels = torch.cat([batch.labels for batch in batches]).view(4, COUNT)
    assert labels.dtype == torch.int64
    assert labels.tolist() == [epoch_order(COUNT, seed=3, epoch=epoch).tolist() for epoch in range(4)]
    assert all(sorted(passed) == list(range(COUNT)) for passed in labels.tolist())
    assert len({tuple(passed) for passed in labels.tolist()}) == 4  # another order each time


def test_pixels_are_decided_by_seed_pass_and_image_alone() -> None:
    samples = numbered()
    expected = []
    for epoch in range(2):
        for index in epoch_order(COUNT, seed=3, epoch=epoch):
            random = np.random.default_rng([3, epoch, index])
            expected.append(preprocess(augment(samples.sources[index], AugmentSpec(), random), SPEC))
    slow = torch.cat([batch.images for batch in first_batches(numbered(SlowSources), batch=7, count=2)])
    small = torch.cat([batch.images for batch in first_batches(samples, batch=2, count=7)])
    np.testing.assert_array_equal(slow.numpy(), np.stack(expected))
    np.testing.assert_array_equal(small.numpy(), np.stack(expected))


def test_a_batch_may_be_larger_than_the_data() -> None:
    (batch,) = first_batches(numbered(), batch=2 * COUNT + 1, count=1)
    assert np.bincount(batch.labels).tolist().count(2) == COUNT - 1  # and one image came three times


def test_evaluation_visits_every_image_once_and_in_order() -> None:
    batches = list(evaluation_batches(numbered(SlowSources), SPEC, batch=3))
    assert [batch.labels.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    expected = np.stack([preprocess(image, SPEC) for image in numbered().sources])
    np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]), expected)


def test_a_crop_is_resized_whole_whatever_the_spec_crops_at_evaluation() -> None:
    spec = ImageSpec.pillow(6, crop=0.5)
    whole = AugmentSpec(area=(1, 1), aspect=(1, 1), flip=False)
    square = Samples(
        ("a",), [np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)], ["a"], np.zeros(1, np.int64)
    )
    with closing(training_batches(square, spec, whole, batch=1, seed=0)) as batches:
        image = next(batches).images[0].numpy()
    resized = np.asarray(Image.fromarray(square.sources[0]).resize((6, 6), Image.Resampling.BICUBIC))
    np.testing.assert_allclose(image, (resized / 127.5 - 1).transpose(2, 0, 1), atol=1e-6)


def test_an_unreadable_image_is_named_when_its_turn_comes(tmp_path) -> None:
    samples = numbered()
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG and no more")
    spoiled = Samples(
        samples.classes, [*samples.sources[:5], broken, samples.sources[6]], samples.names, samples.labels
    )
    batches = evaluation_batches(spoiled, SPEC, batch=3)
    assert next(batches).labels.tolist() == [0, 1, 2]
    with pytest.raises(DatasetError, match=r"cannot use the image .*broken\.png"):
        next(batches)


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    batches = training_batches(numbered(), SPEC, AugmentSpec(), batch=4, seed=0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before
