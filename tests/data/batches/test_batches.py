"""Batches: decided by the seed alone, each image as often as it should be, and no thread left over."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from vitsmith.data.augment.settings import AugmentSpec, sample_box
from vitsmith.data.batches.loader import Crops, evaluation_batches, training_batches
from vitsmith.data.images.preprocess import preprocess
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import ConfigError, DatasetError
from vitsmith.specs import ImageSpec
from vitsmith.training.images.validation import predict_logits

COUNT = 7
SPEC = ImageSpec.pillow(6, resize="squash")
EXACT = AugmentSpec(decoding="exact")


class SlowSources(list):
    """Images that take their time, each a different one, so that threads finish out of order."""

    def __getitem__(self, index):
        time.sleep(0.002 * ((index * 5) % 7))
        return super().__getitem__(index)


def numbered(sources: type[list] = list, count: int = COUNT) -> Samples:
    """Images of noise; the label of an image is its number."""
    noise = np.random.default_rng(0).integers(0, 256, (count, 9, 12, 3)).astype(np.uint8)
    names = [str(index) for index in range(count)]
    return Samples(tuple(names), sources(noise), names, np.arange(count, dtype=np.int64))


def spoiled(folder: Path, *broken: int, count: int = COUNT) -> Samples:
    """The same images, but some are files that are no images."""
    samples = numbered(count=count)
    sources = list(samples.sources)
    for index in broken:
        sources[index] = folder / f"broken{index}.png"
        sources[index].write_bytes(b"\x89PNG and no more")
    return Samples(samples.classes, sources, samples.names, samples.labels)


def first_batches(
    samples: Samples, count: int, *, batch: int = 4, seed: int = 3, augment: AugmentSpec = EXACT, **options
) -> list[Crops]:
    with closing(training_batches(samples, SPEC, augment, batch=batch, seed=seed, **options)) as batches:
        return list(itertools.islice(batches, count))


def together(batches: list[Crops]) -> Crops:
    return Crops(*(torch.cat(parts) for parts in zip(*batches, strict=True)))


def assert_equal(one: list[Crops], other: list[Crops]) -> None:
    assert len(one) == len(other) > 0
    for ours, theirs in zip(one, other, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


# --- training: order, pixels -----------------------------------------------------------------------------------------


def test_each_image_comes_once_a_pass_and_batches_run_over_its_end() -> None:
    batches = first_batches(numbered(), 7, batch=4)  # 28 images: four passes
    assert [tuple(batch.images.shape) for batch in batches] == [(4, 6, 6, 3)] * 7
    everything = together(batches)
    assert everything.images.dtype == torch.uint8 and everything.labels.dtype == everything.seeds.dtype == torch.int64
    labels = everything.labels.view(4, COUNT)
    assert labels.tolist() == [np.random.default_rng([3, epoch]).permutation(COUNT).tolist() for epoch in range(4)]
    assert all(sorted(passed) == list(range(COUNT)) for passed in labels.tolist())
    assert len({tuple(passed) for passed in labels.tolist()}) == 4  # another order each time
    assert len(set(everything.seeds.tolist())) == 28 and everything.seeds.min() >= 0


def test_pixels_are_decided_by_seed_pass_and_image_alone() -> None:
    samples = numbered()
    expected = []
    for epoch in range(2):
        for index in np.random.default_rng([3, epoch]).permutation(COUNT):
            random = np.random.default_rng([3, epoch, index])
            random.integers(2**63)  # the seed of the augmentation on the device
            box = sample_box(9, 12, EXACT, random)
            edges = (box.left, box.top, box.left + box.width, box.top + box.height)
            part = Image.fromarray(samples.sources[index]).crop(edges)
            expected.append(np.asarray(part.resize((6, 6), Image.Resampling.BICUBIC)))
    slow = together(first_batches(numbered(SlowSources), 2, batch=7))
    small = together(first_batches(samples, 7, batch=2, threads=3))
    np.testing.assert_array_equal(slow.images, np.stack(expected))
    np.testing.assert_array_equal(small.images, np.stack(expected))
    assert torch.equal(slow.seeds, small.seeds)


def test_another_seed_gives_another_order_and_other_crops() -> None:
    one, again, other = (together(first_batches(numbered(), 5, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(one.images, again.images) and torch.equal(one.seeds, again.seeds)
    assert one.labels.tolist() != other.labels.tolist()
    assert not set(one.seeds.tolist()) & set(other.seeds.tolist())


def test_a_batch_may_be_larger_than_the_data() -> None:
    (batch,) = first_batches(numbered(), 1, batch=2 * COUNT + 1)
    assert np.bincount(batch.labels).tolist().count(2) == COUNT - 1  # and one image came three times


def test_a_crop_is_resized_whole_whatever_the_spec_crops_at_evaluation() -> None:
    spec = ImageSpec.pillow(6, crop=0.5)
    whole = AugmentSpec(area=(1, 1), aspect=(1, 1), decoding="exact")
    square = Samples(
        ("a",), [np.random.default_rng(0).integers(0, 256, (12, 12, 3)).astype(np.uint8)], ["a"], np.zeros(1, np.int64)
    )
    with closing(training_batches(square, spec, whole, batch=1, seed=0)) as batches:
        image = next(batches).images[0].numpy()
    resized = np.asarray(Image.fromarray(square.sources[0]).resize((6, 6), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(image, resized)


# --- resumed runs, several processes ---------------------------------------------------------------------------------


class CountedSources(list):
    """Remembers which images were asked for."""

    def __init__(self, images):
        super().__init__(images)
        self.asked = []

    def __getitem__(self, index):
        self.asked.append(index)
        return super().__getitem__(index)


@pytest.mark.parametrize("start", [1, 3, 100])
def test_a_resumed_run_sees_the_remaining_batches_and_reads_nothing_else(start) -> None:
    whole = first_batches(numbered(), start + 3)
    samples = numbered(CountedSources)
    assert_equal(first_batches(samples, 3, start=start), whole[start:])
    assert len(samples.sources.asked) <= 4 * (3 + 2)  # those given out, and two batches ahead


@pytest.mark.parametrize("parts", [2, 3, 6])
def test_any_number_of_processes_sees_the_same_batches(parts) -> None:
    whole = first_batches(numbered(), 5, batch=6, start=2)
    shares = [first_batches(numbered(), 5, batch=6, start=2, part=part, parts=parts) for part in range(parts)]
    assert all(len(batch.labels) == 6 // parts for share in shares for batch in share)
    assert_equal([together(list(slices)) for slices in zip(*shares, strict=True)], whole)


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="a batch of 4 images cannot be shared evenly by 3 processes"):
        training_batches(numbered(), SPEC, EXACT, batch=4, seed=0, parts=3)
    empty = Samples(("a",), [], [], np.zeros(0, np.int64))
    with pytest.raises(DatasetError, match="no images"):
        training_batches(empty, SPEC, EXACT, batch=4, seed=0)


# --- unreadable files ------------------------------------------------------------------------------------------------


def test_an_unreadable_image_stops_training_by_default(tmp_path) -> None:
    with pytest.raises(DatasetError, match=r"cannot use the image .*broken5\.png: it is not an image"):
        first_batches(spoiled(tmp_path, 5), 2, batch=7)


def test_unreadable_images_are_replaced_by_their_successors(tmp_path) -> None:
    told: list[str] = []
    samples = spoiled(tmp_path, 2, 5, 6)
    options = {"skip_unreadable": 0.5, "on_unreadable": told.append}
    batches = together(first_batches(samples, 4, batch=7, **options))
    intact = together(first_batches(numbered(), 4, batch=7))
    successor = np.array([0, 1, 3, 3, 4, 0, 0])
    assert batches.labels.tolist() == successor[intact.labels].tolist()
    assert torch.equal(batches.seeds, intact.seeds)
    readable = torch.from_numpy(np.isin(intact.labels, [0, 1, 3, 4]))
    assert torch.equal(batches.images[readable], intact.images[readable])
    assert len(told) == 3  # in four passes
    assert {Path(complaint.partition(": ")[0]).name for complaint in told} == {
        f"broken{index}.png" for index in (2, 5, 6)
    }
    assert all("\n" not in complaint for complaint in told)
    again = first_batches(samples, 1, batch=7, start=3, skip_unreadable=0.5)
    assert torch.equal(again[0].images, batches.images[21:])


def test_the_crop_of_a_replacement_is_another_than_that_of_the_image_itself(tmp_path) -> None:
    batch = first_batches(spoiled(tmp_path, 2), 1, batch=7, skip_unreadable=0.5)[0]
    twins = batch.images[batch.labels == 3]
    assert len(twins) == 2 and not torch.equal(twins[0], twins[1])


def test_too_many_unreadable_images_stop_training(tmp_path) -> None:
    told: list[str] = []
    samples = spoiled(tmp_path, 0, 1, 2, 3, count=20)
    allowed = {"skip_unreadable": 0.2, "on_unreadable": told.append}
    assert len(first_batches(samples, 10, batch=4, **allowed)) == 10 and len(told) == 4
    with pytest.raises(DatasetError) as refused:
        first_batches(samples, 10, batch=4, skip_unreadable=0.15)
    for part in ("4 of 20 images cannot be read", "data.skip_unreadable = 0.15 allows 3", "broken", ", ...", "replace"):
        assert part in str(refused.value)


def test_images_without_a_file_are_complained_of_by_their_names() -> None:
    samples = numbered()
    damaged = Samples(samples.classes, [b"no image", *samples.sources[1:]], ["shard/0.jpg"] * COUNT, samples.labels)
    with pytest.raises(DatasetError, match=r"cannot use the image shard/0\.jpg: it is not an image"):
        first_batches(damaged, 1, batch=7)


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_evaluation_visits_every_image_once_and_in_order() -> None:
    batches = list(evaluation_batches(numbered(SlowSources), SPEC, batch=3))
    assert [batch.labels.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.indices.tolist() for batch in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    expected = np.stack([preprocess(image, SPEC) for image in numbered().sources])
    np.testing.assert_array_equal(torch.cat([batch.images for batch in batches]), expected)


def test_evaluation_names_an_unreadable_image_when_its_turn_comes(tmp_path) -> None:
    batches = evaluation_batches(spoiled(tmp_path, 5), SPEC, batch=3)
    assert next(batches).labels.tolist() == [0, 1, 2]
    with pytest.raises(DatasetError, match=r"cannot use the image .*broken5\.png"):
        next(batches)


def test_evaluation_leaves_out_what_is_allowed_to_be_unreadable(tmp_path) -> None:
    told: list[str] = []
    batches = list(
        evaluation_batches(spoiled(tmp_path, 1, 6), SPEC, batch=3, skip_unreadable=0.3, on_unreadable=told.append)
    )
    assert [batch.indices.tolist() for batch in batches] == [[0, 2], [3, 4, 5], []]
    np.testing.assert_array_equal(batches[0].images[1], preprocess(numbered().sources[2], SPEC))
    assert ["broken1" in told[0], "broken6" in told[1], len(told)] == [True, True, 2]


class Mean(nn.Module):
    """Logits that tell images apart, and how often they were asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.calls = 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.calls += 1
        return self.weight * images.mean(dim=(2, 3))


def test_logits_come_with_the_labels_of_what_was_read(tmp_path) -> None:
    model = Mean().train()
    predicted = predict_logits(model, spoiled(tmp_path, 2), SPEC, batch=3, skip_unreadable=0.2)
    readable = [0, 1, 3, 4, 5, 6]
    assert predicted.indices.tolist() == predicted.labels.tolist() == readable
    expected = np.stack([preprocess(numbered().sources[index], SPEC).mean(axis=(1, 2)) for index in readable])
    np.testing.assert_allclose(predicted.logits, expected, atol=1e-6)
    assert model.training


@pytest.mark.parametrize("parts", [2, 3, 5, 9])
def test_processes_share_an_evaluation_and_call_the_model_equally_often(parts) -> None:
    models = [Mean() for _ in range(parts)]
    answers = [
        predict_logits(model, numbered(), SPEC, batch=2, part=part, parts=parts) for part, model in enumerate(models)
    ]
    assert np.concatenate([answer.indices for answer in answers]).tolist() == list(range(COUNT))
    whole = predict_logits(Mean(), numbered(), SPEC, batch=COUNT)
    logits = [answer.logits for answer in answers if len(answer.logits)]
    np.testing.assert_allclose(np.concatenate(logits), whole.logits, atol=1e-6)
    assert len({model.calls for model in models}) == 1


# --- threads ---------------------------------------------------------------------------------------------------------


def test_closing_ends_the_threads() -> None:
    before = threading.active_count()
    batches = training_batches(numbered(), SPEC, EXACT, batch=4, seed=0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_an_error_ends_the_threads(tmp_path) -> None:
    before = threading.active_count()
    batches = training_batches(spoiled(tmp_path, 5), SPEC, EXACT, batch=7, seed=0)
    with pytest.raises(DatasetError):
        next(batches)
    assert threading.active_count() == before
