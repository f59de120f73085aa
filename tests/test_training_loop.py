"""Batches and the loop: order by seed, exactness of batches, repeatability, what stops a run and what is left."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

import vitsmith as vs
from vitsmith.data.augment import AugmentSpec
from vitsmith.data.batches import evaluation_batches, training_batches
from vitsmith.data.preprocess import preprocess
from vitsmith.data.samples import Samples, Splits
from vitsmith.errors import ConfigError, DatasetError, InputError
from vitsmith.runs import Run
from vitsmith.specs import ImageSpec
from vitsmith.train.loop import Evaluated, StepDone, train
from vitsmith.train.recipe import TrainRecipe, parse_recipe
from vitsmith.train.run import train_to_bundle
from vitsmith.train.start import start

SPEC = ImageSpec.original(16)
MODEL = {"width": 32, "heads": 2, "depth": 1, "mlp_width": 32, "patch": (8, 8)}


def coloured(count: int) -> Samples:
    """Images of three colours, which are their classes."""
    random = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 3
    images = random.integers(0, 80, (count, 20, 20, 3)).astype(np.uint8)
    images[np.arange(count), :, :, labels] += 150
    return Samples(("red", "green", "blue"), list(images), [str(index) for index in range(count)], labels)


def recipe(**changes: object) -> TrainRecipe:
    fields = {"data": "colours", "model": "ViT-mu_16", "image_size": 16, "overrides": MODEL, "steps": 12}
    fields |= {"warmup_steps": 2, "batch": 12, "accumulate": 2, "learning_rate": 0.2, "eval_every": 6}
    return parse_recipe(fields | changes)


def splits() -> Splits:
    return Splits(coloured(36), coloured(15))


def test_order_depends_on_seed_and_epoch_only() -> None:
    def labels(seed: int) -> list[int]:
        with_seed = training_batches(coloured(10), SPEC, AugmentSpec(), batch=4, seed=seed)
        return torch.cat([batch.labels for batch in itertools.islice(with_seed, 5)]).tolist()

    assert labels(0) == labels(0) != labels(1)
    assert np.bincount(labels(0)).tolist() == np.bincount(2 * coloured(10).labels.tolist()).tolist()  # two whole epochs


def test_pixels_are_repeatable_and_preprocessed() -> None:
    first, again = (
        next(training_batches(coloured(10), SPEC, AugmentSpec(), batch=10, seed=0)).images for _ in range(2)
    )
    assert torch.equal(first, again)
    whole = torch.cat([batch.images for batch in evaluation_batches(coloured(7), SPEC, batch=3)])
    expected = np.stack([preprocess(image, SPEC) for image in coloured(7).sources])
    np.testing.assert_array_equal(whole.numpy(), expected)


def test_same_seed_gives_the_same_losses_and_it_learns() -> None:
    runs = []
    for _ in range(2):
        began = start(recipe(overrides=MODEL | {"dropout": 0.1}), 3)
        runs.append(train(began.model, splits(), recipe(), began.images))
    assert [done.loss for done in runs[0].history] == [done.loss for done in runs[1].history]
    assert runs[0].history[0].loss == pytest.approx(np.log(3), rel=1e-5)  # a head of zeros knows nothing
    assert runs[0].final.scores.top1 == 1.0
    assert [evaluated.step for evaluated in runs[0].evaluations] == [6, 12]


def test_events_arrive_in_order() -> None:
    seen: list[StepDone | Evaluated] = []
    began = start(recipe(), 3)
    train(began.model, splits(), recipe(), began.images, on_event=seen.append)
    assert [event.step for event in seen if isinstance(event, StepDone)] == list(range(1, 13))
    assert not began.model.training


def test_divergence_stops_with_advice() -> None:
    began = start(recipe(), 3)
    began.model.head.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"diverged at step 1 .*lower learning_rate"):
        train(began.model, splits(), recipe(), began.images)


def test_model_and_data_must_belong_together() -> None:
    with pytest.raises(ConfigError, match="the model has 4 classes and the data 3"):
        train(vs.create_model("mu/16", classes=4, image_size=16), splits(), recipe(), SPEC)


def test_an_unreadable_image_is_named(tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no")
    samples = coloured(12)
    broken = Samples(samples.classes, [tmp_path / "broken.jpg", *samples.sources[1:]], samples.names, samples.labels)
    with pytest.raises(DatasetError, match=r"broken\.jpg"):
        next(training_batches(broken, SPEC, AugmentSpec(), batch=12, seed=0))


def test_all_mistakes_of_a_recipe_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as told:
        recipe(model="ViT-mu_17", batch=7, warmup_steps=99, learning_rat=1)
    for part in ("learning_rat", "unknown model 'ViT-mu_17'", "cannot be cut into 2", "warm-up must be shorter"):
        assert part in str(told.value)


def test_a_run_leaves_a_bundle_that_predicts_alike(tmp_path) -> None:
    with Run("train", "colours", tmp_path / "run") as run:
        trained = train_to_bundle(recipe(), splits(), run, on_event=lambda _: None)
    bundle = vs.load(tmp_path / "run" / "model")
    assert bundle.labels.names == ("red", "green", "blue")
    assert len(bundle.golden.images) == 4
    predicted = vs.Predictor(bundle)(splits().val.sources)
    assert [one.label for one in predicted] == [splits().classes[label] for label in splits().val.labels]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == [done.loss for done in trained.result.history]
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["steps"] == 12


def test_an_interruption_leaves_no_half_bundle(tmp_path) -> None:
    def interrupt(event: StepDone | Evaluated) -> None:
        if event.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run("train", "colours", tmp_path / "run") as run:
        train_to_bundle(recipe(), splits(), run, on_event=interrupt)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["command.txt", "metrics.jsonl", "recipe.json"]


def test_fine_tuning_starts_from_a_bundle_and_keeps_its_preprocessing(tmp_path) -> None:
    source = vs.create_model("mu/16", classes=5, image_size=32)
    source.head.weight.data.normal_()
    spec = ImageSpec.pillow(32)
    vs.save(vs.Bundle.of(source, images=spec), tmp_path / "source")
    began = start(recipe(model="", overrides={}, init_from=str(tmp_path / "source"), image_size=64), 3)
    assert began.images == spec.model_copy(update={"size": (64, 64)})
    assert list(began.report.resized) == ["positions.embedding"]
    assert torch.equal(began.model.blocks[0].mlp.widen.weight, source.blocks[0].mlp.widen.weight)
