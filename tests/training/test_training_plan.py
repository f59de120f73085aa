"""The plan of a run: what it chooses is what the run does, its bytes are those on disk, and nothing is written."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.training.small_runs import coloured, recipe, splits, training
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.errors import InputError
from vitsmith.models.configure import configure
from vitsmith.runs.run import Run
from vitsmith.training.checkpoint.disk import TENSORS, CheckpointWriter
from vitsmith.training.forecast import Disk, Duration
from vitsmith.training.images import plan as plan_module
from vitsmith.training.images.plan import plan_images
from vitsmith.training.images.run import train_to_bundle
from vitsmith.training.images.task import ImageTask
from vitsmith.training.memory import plan as memory
from vitsmith.training.memory.plan import peak_otherwise, plan_memory
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.rehearsal import UpdateTimes, rehearse
from vitsmith.training.task import Update


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "BUDGET", 0.01)


def test_it_is_the_plan_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = recipe(batch={"size": 12, "micro": None}, schedule={"epochs": 2.0})
    before, told = torch.get_rng_state(), list[str]()
    planned = plan_images(wanted, splits(), tell=told.append)
    assert not any(tmp_path.iterdir()) and torch.equal(torch.get_rng_state(), before) and not told
    with Run("train", "colours") as run:
        trained = train_to_bundle(wanted, splits(), run)
    assert planned.recipe == trained.recipe
    assert dataclasses.replace(planned.memory, predicted=0, available=0, parts=(), reason="") == dataclasses.replace(
        trained.plan, predicted=0, available=0, parts=(), reason=""
    )
    assert planned.duration.updates == 6 and planned.duration.evaluations == len(trained.result.evaluations) == 1
    weights = trained.bundle.folder / "model.safetensors"  # type: ignore[operator]
    assert planned.disk.bundle == pytest.approx(weights.stat().st_size, rel=0.1)  # its header has some hundred bytes
    assert sum(dict(planned.memory.parts).values()) == planned.memory.predicted
    assert 0 < planned.measured_memory < 3 * planned.memory.predicted


@pytest.mark.parametrize(
    ("optimizer", "steps", "every", "keep", "there"),
    [({"name": "sgd"}, 12, 5, 2, 3), ({"name": "adamw", "ema": 0.9}, 4, 4, 5, 1), ({"name": "sgd"}, 9, 0, 1, 1)],
)
def test_checkpoints_take_what_is_told(
    tmp_path: Path, optimizer: dict[str, object], steps: int, every: int, keep: int, there: int
) -> None:
    run = {"checkpoint_every": every, "keep_checkpoints": keep, "eval_every": 0}
    wanted = recipe(optimizer=optimizer, schedule={"steps": steps}, run=run)
    disk = plan_images(wanted, splits(), folder=tmp_path / "not" / "there").disk
    writer = CheckpointWriter(tmp_path, 100)
    training(wanted, checkpoints=writer).go()
    writer.wait()
    written = [folder / TENSORS for folder in (tmp_path / "checkpoints").iterdir()]
    assert min(len(written), keep + 1) == disk.checkpoints == there
    assert disk.checkpoint == pytest.approx(written[0].stat().st_size, rel=0.15)  # header
    assert disk.checkpoint < written[0].stat().st_size
    assert disk.most == there * disk.checkpoint + disk.bundle


def test_time_is_the_sum_of_its_parts() -> None:
    pace = UpdateTimes((2.0, 4.0, 3.0, 3.0), waiting=0.5)
    assert pace.mean == 3 and pace.ends == pytest.approx((2.15, 3.85))  # by hand: 0.15 of the way between neighbours
    whole = Duration(updates=10, update=pace, evaluations=3, evaluation=5.0, test=2.0, before=20.0)
    assert whole.seconds == 20 + 10 * 3 + 3 * 5 + 2
    assert whole.interval == pytest.approx((0.9 * (37 + 21.5), 1.1 * (37 + 38.5)))  # a tenth for the machine


def test_updates_are_those_of_the_run() -> None:
    wanted = recipe()
    went = training(wanted)
    losses: list[float] = []
    task = training(wanted).task
    update = task.update
    task.update = lambda *given: losses.append(float((found := update(*given)).loss)) or found  # type: ignore[method-assign]
    counted: list[int] = []
    pace = rehearse(task, 3, untimed=1, on_update=lambda: counted.append(1))
    assert len(pace.seconds) == 3 and len(counted) == 4 and 0 <= pace.waiting < 1
    assert losses == [done.loss for done in went.go().history[:4]]


def test_a_loss_that_is_no_number_is_the_error_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = Update(torch.tensor(torch.nan), torch.tensor(1.0), 0.1)
    monkeypatch.setattr(ImageTask, "update", lambda *_: nothing)
    with pytest.raises(InputError, match="training diverged at step"):
        rehearse(training(recipe()).task, 2)


def test_long_updates_are_told_before(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[int, int]] = []

    def pretended(task: object, updates: int, *, untimed: int = 0, on_update: object = None) -> UpdateTimes:
        made.append((updates, untimed))
        return UpdateTimes((9.0,) * updates, 0.0)

    monkeypatch.setattr(plan_module, "rehearse", pretended)
    told: list[str] = []
    planned = plan_images(recipe(batch={"size": 120, "micro": 12}), splits(), tell=told.append)
    assert made == [(1, 1), (2, 0)]  # one micro-batch takes 9 s, ten of them 90
    assert told == [
        "an update takes about 2 min here: measuring 2 of them takes about 3 min; Ctrl-C stops it, and nothing is lost"
    ]
    assert planned.duration.seconds == pytest.approx(12 * 9, rel=0.1)


def test_unreadable_images_are_told_and_do_not_stop_it() -> None:
    data = coloured(36)
    sources = [b"no image", *data.sources[1:]]
    broken = Samples(data.classes, sources, data.names, data.labels)
    wanted = recipe(data={"skip_unreadable": 0.1}, batch={"size": 36, "micro": 36})
    assert any("unreadable" in one for one in plan_images(wanted, Splits(broken, coloured(15))).remarks)


def test_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda _: SimpleNamespace(free=7))
    remarks = plan_images(recipe(), splits()).remarks
    assert any("the disk has 7 B free" in one for one in remarks)


def test_another_choice_takes_what_its_own_plan_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "resident_memory", lambda: 300 * 2**20)
    monkeypatch.setattr(memory, "give_back_freed_memory", lambda: False)
    config, cpu = configure("ViT-Ti/16", image_size=32, classes=5, depth=1), torch.device("cpu")

    def of(**batch: object) -> TrainRecipe:
        return recipe(model={"config": {}, "name": "ViT-Ti_16", "image_size": 32}, batch={"size": 24, **batch})

    chosen = plan_memory(config, of(micro=24, checkpointing="off"), device=cpu, available=2**40)
    for micro, checkpointing in ((12, "off"), (24, "on")):
        other = of(micro=micro, checkpointing=checkpointing)
        itself = plan_memory(config, other, device=cpu, available=2**40)
        holes = dict(itself.parts)["holes in the heap"] if checkpointing == "on" else 0  # it would have given them back
        assert peak_otherwise(chosen, config, other, cpu) == itself.predicted - holes


def test_copies_for_a_checkpoint_count_while_updates_go_on() -> None:
    config, cpu = configure("ViT-Ti/16", image_size=32, classes=5, depth=2), torch.device("cpu")
    parts = {
        every: dict(plan_memory(config, recipe(run={"checkpoint_every": every}), device=cpu, available=2**40).parts)
        for every in (0, 5, 12)
    }
    assert "checkpoint being written" not in parts[0] and "checkpoint being written" not in parts[12]
    assert parts[5]["checkpoint being written"] == parts[5]["weights"] + parts[5]["optimizer state"]


def test_disk_of_a_run() -> None:
    assert Disk(checkpoint=10, checkpoints=3, bundle=4, free=100).most == 34
