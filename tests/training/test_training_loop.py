"""The loop: repeatability, what it reports, what stops it, and what a whole run leaves."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import vitsmith as vs
from tests.training.small_runs import SPEC, coloured, recipe, splits, training
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import ConfigError, DatasetError, InputError
from vitsmith.runs.run import Run
from vitsmith.specs import ImageSpec
from vitsmith.training.images import task
from vitsmith.training.images.run import resolve, train_to_bundle
from vitsmith.training.images.start import start
from vitsmith.training.monitor.events import Evaluated, StepDone, Warned
from vitsmith.training.recipes.file import merge


def test_same_seed_gives_the_same_losses_and_it_learns() -> None:
    wanted = recipe(model={"config": {"dropout": 0.1}})
    runs = [training(wanted).go() for _ in range(2)]
    assert [done.loss for done in runs[0].history] == [done.loss for done in runs[1].history]
    assert runs[0].history[0].loss == pytest.approx(np.log(3), rel=1e-5)  # a head of zeros knows nothing
    assert runs[0].final.scores.top1 == 1.0
    assert [evaluated.step for evaluated in runs[0].evaluations] == [6, 12]


def test_another_seed_gives_other_losses() -> None:
    losses = [[done.loss for done in training(recipe(run={"seed": seed})).go().history] for seed in (0, 1)]
    assert losses[0] != losses[1]


def test_micro_batches_change_rounding_only() -> None:
    slices = [training(recipe(batch={"micro": micro})).go() for micro in (12, 6, 2)]
    losses = [[done.loss for done in one.history] for one in slices]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-4)


def test_both_gradients_of_sam_draw_the_same_dropout_and_every_update_another() -> None:
    run = training(recipe(model={"config": {"dropout": 0.5}}, optimizer={"sharpness": "sam"}, batch={"micro": 12}))
    kept: list[torch.Tensor] = []
    run.task.learner.model.dropout.register_forward_hook(
        lambda module, _, output: kept.append(output.detach() != 0) if module.training else None
    )
    run.go()
    assert len(kept) == 24  # two an update
    for first, second in zip(kept[::2], kept[1::2], strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(kept[0], kept[2])


def test_a_fresh_head_is_zero_unless_it_is_asked_to_be_drawn() -> None:
    def head(**model: float) -> torch.Tensor:
        return start(recipe(model={"name": "ViT-mu_16", "image_size": 32, **model}), 3).model.head.weight.detach()

    assert not head().any()
    drawn = head(head_std=0.3)
    assert 0.2 < float(drawn.std()) < 0.4 and torch.equal(drawn, head(head_std=0.3))


def test_torchs_random_state_is_given_back() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    training(recipe(model={"config": {"dropout": 0.1}})).go()
    assert torch.equal(torch.get_rng_state(), before)


def test_events_arrive_in_order() -> None:
    seen: list[object] = []
    run = training(recipe(), on_event=seen.append)
    run.go()
    assert [event.step for event in seen if isinstance(event, StepDone)] == list(range(1, 13))
    assert [type(event) for event in seen if event.step == 12] == [StepDone, Evaluated]
    assert not run.task.learner.model.training


def test_divergence_stops_with_advice() -> None:
    run = training(recipe())
    run.task.learner.model.head.weight.data.fill_(torch.nan)
    with pytest.raises(InputError, match=r"diverged at step 1 .*lower optimizer\.lr"):
        run.go()


def test_model_and_data_must_belong_together() -> None:
    four = Samples(("a", "b", "c", "d"), *(getattr(coloured(12), name) for name in ("sources", "names", "labels")))
    with pytest.raises(ConfigError, match="the model has 3 classes and the data 4"):
        training(recipe(), data=Splits(four, four)).go()


def test_the_mean_of_the_weights_is_what_is_kept() -> None:
    """The mean lags behind the last weights, is evaluated in their place, and is what the model holds in the end."""
    plain, mean = (training(recipe(optimizer={"ema": ema})) for ema in (0.0, 0.9))
    results = [plain.go(), mean.go()]
    assert [done.loss for done in results[0].history] == [done.loss for done in results[1].history]
    weights = [run.task.learner.model.head.weight for run in (plain, mean)]
    assert not torch.equal(*weights)
    images = torch.from_numpy(np.stack([vs_load(image) for image in splits().val.sources]))
    with torch.no_grad():
        logits = mean.task.learner.model(images).numpy()
    np.testing.assert_allclose(results[1].predicted.logits, logits, atol=1e-6)
    assert results[1].final.step == 12


def vs_load(image: np.ndarray) -> np.ndarray:
    from vitsmith.data.images.preprocess import preprocess

    return preprocess(image, SPEC)


def test_out_of_memory_goes_on_in_smaller_slices_with_the_same_batch(monkeypatch) -> None:
    """The allocator really refuses: the first gradient at 12 images at once asks for more than any machine has."""
    expected = [done.loss for done in training(recipe(batch={"micro": 6})).go().history]
    compute = task.compute_gradients

    def greedy(learner, slices, *rest):
        slices = list(slices)
        if len(slices[0].labels) == 12:
            torch.empty(2**60)
        return compute(learner, slices, *rest)

    monkeypatch.setattr(task, "compute_gradients", greedy)
    seen: list[object] = []
    result = training(recipe(batch={"micro": 12}), on_event=seen.append).go()
    assert [done.loss for done in result.history] == expected
    warned = [event.message for event in seen if isinstance(event, Warned)]
    assert "12 images at once: going on with 6" in warned[0]


def test_other_runtime_errors_are_not_taken_for_memory(monkeypatch) -> None:
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(task, "compute_gradients", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        training(recipe()).go()


def test_unreadable_images_are_told_once_and_too_many_stop(tmp_path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no")
    whole = coloured(36)
    samples = Samples(whole.classes, [tmp_path / "broken.jpg", *whole.sources[1:]], whole.names, whole.labels)
    result = training(recipe(data={"skip_unreadable": 0.1}), data=Splits(samples, samples)).go()
    assert sum("broken.jpg" in warned.message for warned in result.warnings) == 1
    with pytest.raises(DatasetError, match=r"broken\.jpg"):
        training(recipe(), data=Splits(samples, samples)).go()


def test_epochs_become_updates() -> None:
    resolved = resolve(recipe(schedule={"epochs": 2.5, "warmup_epochs": 0.5}), images=100).schedule
    assert (resolved.steps, resolved.warmup) == (21, 5)  # ceil(250 / 12), ceil(50 / 12)
    with pytest.raises(ConfigError, match="warmup of 5 must be shorter than the run of 2 steps"):
        resolve(recipe(schedule={"epochs": 0.2, "warmup_epochs": 0.5}), images=100)


def test_a_run_leaves_a_bundle_that_predicts_alike(tmp_path) -> None:
    with Run("train", "colours", tmp_path / "run") as run:
        trained = train_to_bundle(recipe(), splits(), run)
    bundle = vs.load(tmp_path / "run" / "model")
    assert bundle.labels.names == ("red", "green", "blue")
    assert len(bundle.golden.images) == 4
    predicted = vs.Predictor(bundle)(splits().val.sources)
    assert [one.label for one in predicted] == [splits().classes[label] for label in splits().val.labels]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines if "loss" in line] == [done.loss for done in trained.result.history]
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["schedule"]["steps"] == 12
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_fine_tuning_starts_from_a_bundle_and_keeps_its_preprocessing(tmp_path) -> None:
    source = vs.create_model("mu/16", classes=5, image_size=32)
    source.head.weight.data.normal_()
    spec = ImageSpec.pillow(32)
    vs.save(vs.Bundle.of(source, preprocessing=spec), tmp_path / "source")
    wanted = recipe(model={"init": str(tmp_path / "source"), "name": "", "image_size": 64})
    began = start(wanted.model_copy(update={"model": wanted.model.model_copy(update={"config": {}})}), 3)
    assert began.images == spec.model_copy(update={"size": (64, 64)})
    assert list(began.report.resized) == ["positions.embedding"]
    assert torch.equal(began.model.blocks[0].mlp.widen.weight, source.blocks[0].mlp.widen.weight)


def test_a_baseline_is_measured_before_fine_tuning(tmp_path) -> None:
    published = {"license": "apache-2.0", "origin": "hf:timm/vit", "revision": "4b0f1c2"}
    model = vs.create_model("mu/16", classes=5, image_size=16)
    provenance = vs.Provenance(source="a test", **published)
    vs.save(vs.Bundle.of(model, provenance=provenance), tmp_path / "source")
    fields = merge({}, {"init": str(tmp_path / "source"), "name": "", "image_size": 16})
    wanted = recipe(model=fields)
    wanted = wanted.model_copy(update={"model": wanted.model.model_copy(update={"config": {}})})
    told: list[str] = []
    with Run("train", "colours", tmp_path / "run") as run:
        trained = train_to_bundle(wanted, splits(), run, on_start=told.append)
    assert trained.baseline is not None
    assert json.loads((tmp_path / "run" / "baseline.json").read_text())["linear"] == trained.baseline.linear
    assert any("linear probe" in message for message in told)
    assert trained.bundle.provenance.publication == published  # whoever made the weights, and their licence
