"""Runs that end before their time: interrupted, killed, out of disk; and how they go on to the very same losses."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.training.small_runs import FIELDS, command, logged, recipe, run, settings, splits, training, write_folder
from vitsmith.errors import ConfigError, InputError, OutputError
from vitsmith.files import atomic as files
from vitsmith.runs.run import Run
from vitsmith.training.checkpoint import disk as checkpoint_module
from vitsmith.training.checkpoint.disk import CheckpointWriter, read_latest
from vitsmith.training.images import task as task_module
from vitsmith.training.images.run import check_unchanged, resume_to_bundle, train_to_bundle
from vitsmith.training.monitor.events import Evaluated, Saved, StepDone
from vitsmith.training.recipes.file import merge
from vitsmith.training.stop import StopRequest, stopping_gently, under_way

HARD = {
    "model": {"config": {"dropout": 0.1, "stochastic_depth": 0.1}},
    "augment": {"grade": "light2"},
    "optimizer": {"name": "adamw", "lr": 0.01, "ema": 0.9},
    "run": {"checkpoint_every": 4},
}
"""All that has a state or draws random numbers."""


def losses(result) -> list[float]:
    return [done.loss for done in result.history]


def stop_after(step: int, stop: StopRequest):
    def listen(event: object) -> None:
        if isinstance(event, StepDone) and event.step == step:
            stop.ask()

    return listen


@pytest.mark.parametrize("changes", [{}, HARD, {"optimizer": {"sharpness": "sam"}, "run": {"precision": "bf16"}}])
def test_a_run_that_was_stopped_ends_as_if_it_had_not(tmp_path, changes) -> None:
    wanted = recipe(**changes)
    with Run("train", "whole", tmp_path / "whole") as run_:
        whole = train_to_bundle(wanted, splits(), run_)

    folder = tmp_path / "halves"
    with pytest.raises(KeyboardInterrupt), Run("train", "halves", folder) as run_:
        train_to_bundle(
            recipe(**merge(changes, {"run": {"checkpoint_every": 4}})), splits(), run_, on_event=interrupt_at(6)
        )
    with Run.reopen(folder) as run_:
        halves = resume_to_bundle(folder, splits(), run_)

    assert losses(halves.result) == losses(whole.result)
    assert logged(folder, "step", "step") == list(range(1, 13))
    assert [one.scores.nll for one in halves.result.evaluations] == [one.scores.nll for one in whole.result.evaluations]
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "halves")]
    assert weights[0] == weights[1]
    assert not (folder / "checkpoints").exists()


def interrupt_at(step: int):
    """As a second Ctrl-C: nothing more is saved."""

    def listen(event: object) -> None:
        if isinstance(event, StepDone) and event.step == step:
            raise KeyboardInterrupt

    return listen


def test_the_first_ctrl_c_finishes_the_update_and_saves_it(tmp_path) -> None:
    folder = write_folder(tmp_path / "data")
    options = [
        "train",
        "--data",
        str(folder),
        "--out",
        "run",
        *settings(
            merge(FIELDS, {"data": {"path": str(folder)}, "schedule": {"steps": 4000}, "run": {"eval_every": 0}})
        ),
    ]
    process = subprocess.Popen(
        command(*options), cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    wait_for(tmp_path / "run" / "metrics.jsonl", '"step": 5,', process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    done = read_latest(tmp_path / "run").step
    assert f"stopped after {done} updates, all of them saved; go on with vitsmith train --resume run" in said
    assert logged(tmp_path / "run", "step", "step")[-1] == done
    assert not (tmp_path / "run" / "model").exists()

    changed = run("train", "--resume", "run", "--lr", "0.5", "--set", "optimizer.clip=2", cwd=tmp_path)
    assert changed.returncode == 2
    assert "optimizer.lr: 0.2 -> 0.5; optimizer.clip: 1.0 -> 2.0" in changed.stderr
    (folder / "red" / "00.png").rename(folder / "red" / "renamed.png")
    other = run("train", "--resume", "run", cwd=tmp_path)
    assert other.returncode == 2
    assert "is not the data that the run in run began with" in other.stderr
    assert read_latest(tmp_path / "run").step == done


def wait_for(path: Path, text: str, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if path.exists() and text in path.read_text():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{text} never came")


_KILLED = """
import os, signal, sys, time
from pathlib import Path
import torch
from vitsmith.training.checkpoint.disk import CheckpointWriter
torch.set_num_threads(1)
for attempt in range(12):
    reader, answers = os.pipe()
    child = os.fork()
    if not child:
        writer = CheckpointWriter(Path(sys.argv[1], str(attempt)), 2)
        for step in range(1, 100000):
            writer.save(step, {"weights": torch.full((200000,), float(step))}, {})
            os.write(answers, b".")
    for _ in range(4):
        os.read(reader, 1)
    time.sleep(0.0017 * attempt)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""


def test_who_stops_an_evaluation_is_told_that_it_is_what_ends_first(monkeypatch) -> None:
    said = []
    predict = task_module.predict_logits

    def stopped_meanwhile(*arguments, **named):
        said.append(under_way())
        return predict(*arguments, **named)

    monkeypatch.setattr(task_module, "predict_logits", stopped_meanwhile)
    with stopping_gently() as stop:
        training(recipe(), stop=stop).go()
        assert said == ["the evaluation under way, and saving the updates before it"] * 2
        assert under_way() == "the update under way, and saving it"


def test_a_kill_at_any_moment_leaves_a_usable_checkpoint(tmp_path) -> None:
    """Processes that do nothing but write checkpoints, whose fourth is begun, are killed at twelve moments."""
    subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=True)
    for attempt in range(12):
        latest = read_latest(tmp_path / str(attempt))
        assert latest.step >= 3
        assert (latest.tensors["weights"] == latest.step).all()


def test_a_run_that_was_killed_goes_on_to_the_very_same_losses(tmp_path) -> None:
    data = write_folder(tmp_path / "data")
    steps = {"schedule": {"steps": 50}, "run": {"checkpoint_every": 5, "eval_every": 25}}
    options = settings(merge(FIELDS, {"data": {"path": str(data)}, **steps}))
    whole = run("train", *options, "--out", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    process = subprocess.Popen(
        command("train", *options, "--out", "killed"),
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(tmp_path / "killed" / "metrics.jsonl", '"step": 12,', process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "killed" / "model").exists()
    resumed = run("train", "--resume", "killed", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert logged(tmp_path / "killed", "step", "loss") == logged(tmp_path / "whole", "step", "loss")
    assert logged(tmp_path / "killed", "evaluation", "nll") == logged(tmp_path / "whole", "evaluation", "nll")


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch) -> None:
    """What the disk says when it is full, said by the file that is written to it."""
    wanted = recipe(run={"checkpoint_every": 3})
    writer = CheckpointWriter(tmp_path, 2)

    def fill_the_disk(event: object) -> None:
        if isinstance(event, Saved):
            monkeypatch.setattr(checkpoint_module, "save_file", full)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    told = rf"No space left on device.*the one of step \d is intact: .* --resume {re.escape(str(tmp_path))}"
    with pytest.raises(OutputError, match=told):
        training(wanted, on_event=fill_the_disk, checkpoints=writer).go()
    writer.close()
    assert read_latest(tmp_path).step in (3, 6, 9)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if ".partial" in path.name] == []
    writer = CheckpointWriter(tmp_path / "other", 2)
    with pytest.raises(OutputError, match=r"step 3 .* there is no earlier one to resume from: .* start over"):
        training(wanted, checkpoints=writer).go()
    writer.close()


def test_a_damaged_checkpoint_is_passed_over(tmp_path) -> None:
    writer = CheckpointWriter(tmp_path, 5)
    run_ = training(recipe(run={"checkpoint_every": 4}), checkpoints=writer)
    run_.go()
    writer.wait()
    assert read_latest(tmp_path).step == 12
    shutil.rmtree(tmp_path / "checkpoints" / "step-000012")
    assert read_latest(tmp_path).step == 8
    tensors = tmp_path / "checkpoints" / "step-000008" / "state.safetensors"
    changed = bytearray(tensors.read_bytes())
    changed[-1] ^= 1
    tensors.write_bytes(changed)
    assert read_latest(tmp_path).step == 4
    (tmp_path / "checkpoints" / "step-000004" / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"every checkpoint .* is damaged"):
        read_latest(tmp_path)


def test_steps_are_numbers_and_not_words(tmp_path) -> None:
    """As words, 1000000 comes before 999900."""
    writer = CheckpointWriter(tmp_path, 2)
    for step in (999_800, 999_900, 1_000_000, 1_000_100):
        writer.save(step, {"weights": torch.full((2,), float(step))}, {})
    writer.wait()
    writer.close()
    assert read_latest(tmp_path).step == 1_000_100
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


def test_after_the_last_update_nothing_is_lost(tmp_path) -> None:
    """A run that ends while its bundle is written has only the last evaluation to make again."""
    wanted = recipe(run={"checkpoint_every": 0})
    folder = tmp_path / "run"

    def end(event: object) -> None:
        if isinstance(event, Evaluated) and event.step == 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Run("train", "run", folder) as run_:
        train_to_bundle(wanted, splits(), run_, on_event=end)
    assert read_latest(folder).step == 12
    with Run.reopen(folder) as run_:
        resumed = resume_to_bundle(folder, splits(), run_)
    assert resumed.result.final.scores.top1 == 1.0
    assert logged(folder, "evaluation", "step") == [6, 12]
    assert (folder / "model" / "bundle.json").exists()


def test_every_checkpoint_is_reported(tmp_path) -> None:
    seen: list[object] = []
    writer = CheckpointWriter(tmp_path, 9)
    training(recipe(run={"checkpoint_every": 2}), on_event=seen.append, checkpoints=writer).go()
    writer.close()
    steps = [event.step for event in seen if isinstance(event, Saved)]
    assert steps == [2, 4, 6, 8, 10]  # the last is complete when the run is


def test_nothing_to_resume_is_said(tmp_path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint"):
        read_latest(tmp_path)
    (tmp_path / "model").mkdir()
    with pytest.raises(InputError, match=r"is complete: its bundle is"):
        read_latest(tmp_path)


def test_a_changed_recipe_is_told(tmp_path) -> None:
    (tmp_path / "recipe.json").write_text(json.dumps(recipe().model_dump(mode="json")))
    check_unchanged(tmp_path, {"optimizer": {"lr": 0.2}})
    with pytest.raises(ConfigError, match=r"cannot go on with another recipe \(optimizer\.lr: 0\.2 -> 0\.1; run\.seed"):
        check_unchanged(tmp_path, {"optimizer": {"lr": 0.1}, "run": {"seed": 3}})


def test_only_the_newest_are_kept_and_each_holds_everything(tmp_path) -> None:
    writer = CheckpointWriter(tmp_path, 2)
    training(recipe(**merge(HARD, {"run": {"checkpoint_every": 2}})), checkpoints=writer).go()
    writer.wait()
    writer.close()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000010", "step-000012"]
    with safe_open(tmp_path / "checkpoints" / "step-000012" / "state.safetensors", "pt") as tensors:
        kinds = {name.split(".")[0] for name in tensors.keys()}  # noqa: SIM118
    assert kinds == {"model", "optimizer", "ema"}
    assert (
        files.sha256(tmp_path / "checkpoints" / "step-000012" / "state.safetensors")
        == read_latest(tmp_path).facts["sha256"]
    )


# --- what a resumed run trusts ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def halfway(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a running mean that was interrupted after 9 of 12 updates, with checkpoints of 4 and 8."""
    folder = tmp_path_factory.mktemp("halfway") / "run"
    wanted = recipe(optimizer={"name": "adamw", "lr": 0.01, "ema": 0.9}, run={"checkpoint_every": 4})
    with pytest.raises(KeyboardInterrupt), Run("train", "run", folder) as run_:
        train_to_bundle(wanted, splits(), run_, on_event=interrupt_at(9))
    return folder


@pytest.fixture
def broken(halfway: Path, tmp_path: Path) -> Path:
    """A copy of it, for each test to break."""
    return Path(shutil.copytree(halfway, tmp_path / "run"))


def resumed(folder: Path) -> tuple[list[float], list[str]]:
    """The losses of the whole run, and what was said before it went on."""
    said: list[str] = []
    with Run.reopen(folder) as run_:
        return losses(resume_to_bundle(folder, splits(), run_, on_start=said.append).result), said


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture(scope="module")
def right(halfway: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return resumed(Path(shutil.copytree(halfway, tmp_path_factory.mktemp("right") / "run")))[0]


def test_an_untouched_run_goes_on_without_a_word(broken: Path, right: list[float]) -> None:
    found, said = resumed(broken)
    assert found == right and said[0] == "going on after update 8 of 12"


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("section", "field", "value"), [("optimizer", "lr", 0.02), ("batch", "size", 6)])
def test_an_edited_recipe_is_refused_with_what_differs(
    broken: Path, section: str, field: str, value: float, old: bool
) -> None:
    fields = json.loads((broken / "recipe.json").read_text())
    before, fields[section][field] = fields[section][field], value
    (broken / "recipe.json").write_text(json.dumps(fields))
    if old:  # a checkpoint of before recipes were in them: it goes on, and says that it believes
        for path in broken.glob("checkpoints/*/state.json"):
            facts = json.loads(path.read_text())
            path.write_text(json.dumps({name: facts[name] for name in facts if name not in ("recipe", "checksum")}))
        assert "without a checksum of state.json: it is trusted" in resumed(broken)[1][0]
        return
    with pytest.raises(ConfigError, match=rf"{section}\.{field}: {before} -> {value}\): restore its recipe"):
        resumed(broken)
    assert not (broken / "model").exists()


FACTS: tuple[dict[str, object], ...] = (
    {"step": 6},
    {"step": 10**20},
    {"micro": 1},
    {"devices": 2},
    {"data": ""},
    {"config": {}},
)


@pytest.mark.parametrize("facts", FACTS)
def test_edited_facts_are_passed_over_and_told(broken: Path, right: list[float], facts: dict[str, object]) -> None:
    edit_json(broken / "checkpoints" / "step-000008" / "state.json", **facts)
    found, said = resumed(broken)
    assert found == right
    assert said[0] == "step-000008 is skipped: state.json was changed after it was written"
    assert "going on after update 4 of 12" in said


def test_when_no_checkpoint_is_whole_all_reasons_are_told(broken: Path) -> None:
    edit_json(broken / "checkpoints" / "step-000008" / "state.json", step=6)
    (broken / "checkpoints" / "step-000004" / "state.json").write_text("[" * 100_000)
    with pytest.raises(InputError, match=r"step-000008: state\.json was changed .*; step-000004: .*nested"):
        read_latest(broken)


def test_a_checkpoint_under_another_name_is_passed_over(broken: Path, right: list[float]) -> None:
    (broken / "checkpoints" / "step-000008").rename(broken / "checkpoints" / "step-000010")
    (broken / "checkpoints" / "step-twelve").mkdir()
    found, said = resumed(broken)
    assert found == right and said[0] == "step-000010 is skipped: it holds update 8: the folder was renamed"


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_a_checkpoint_without_one_of_its_files_is_passed_over(broken: Path, right: list[float], name: str) -> None:
    (broken / "checkpoints" / "step-000008" / name).unlink()
    found, said = resumed(broken)
    assert found == right and said[0] == f"step-000008 is skipped: {name} is missing"


def test_a_checkpoint_of_another_run_is_refused(broken: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    with pytest.raises(KeyboardInterrupt), Run("train", "other", other) as run_:
        train_to_bundle(recipe(run={"checkpoint_every": 4}), splits(), run_, on_event=interrupt_at(9))
    shutil.rmtree(broken / "checkpoints")
    shutil.copytree(other / "checkpoints", broken / "checkpoints")
    with pytest.raises(ConfigError, match=r'optimizer\.name: "sgd" -> "adamw"; optimizer\.lr: 0\.2 -> 0\.01'):
        resumed(broken)


def rewritten(folder: Path, change) -> None:
    """The newest checkpoint with other arrays, by somebody who knows its hashes."""
    place = folder / "checkpoints" / "step-000008"
    tensors = load_file(place / "state.safetensors")
    change(tensors)
    save_file(tensors, place / "state.safetensors")
    facts = json.loads((place / "state.json").read_text())
    facts["sha256"] = files.sha256(place / "state.safetensors")
    facts["checksum"] = checkpoint_module._checksum(facts)
    (place / "state.json").write_text(json.dumps(facts))


ARRAYS = {
    "no optimizer": (lambda t: [t.pop(name) for name in [*t] if name.startswith("optimizer.")], "missing"),
    "no mean": (lambda t: [t.pop(name) for name in [*t] if name.startswith("ema.")], "missing"),
    "no head": (lambda t: t.pop("model.head.weight"), "missing, the first is 'model.head.weight'"),
    "half an optimizer": (lambda t: t.pop("optimizer.head.weight.exp_avg_sq"), "1 missing, the first is 'optimizer.h"),
    "another shape": (lambda t: t.update({"model.head.weight": t["model.head.weight"][:1].clone()}), "another shape"),
    "one too many": (lambda t: t.update({"model.more": torch.zeros(1)}), "1 unexpected, the first is 'model.more'"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_not_the_runs_are_refused(broken: Path, case: str) -> None:
    change, told = ARRAYS[case]
    rewritten(broken, change)
    with pytest.raises(InputError, match=r"the arrays of the checkpoint are not those of this run") as refused:
        resumed(broken)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:2] + lines[4:], "of 8 updates and 0 unreadable lines"),
        (lambda lines: ["5", "[]", "null", "{}", *lines], "unreadable lines"),
        (lambda lines: [line.replace('"step": 3, "loss": ', '"step": 3, "loss": "x",') for line in lines], "7 of 8 up"),
        (lambda lines: [], "0 of 8 updates and 0 unreadable lines"),
    ],
)
def test_an_edited_log_changes_no_loss_and_is_told(broken: Path, right: list[float], change, told: str) -> None:
    log = broken / "metrics.jsonl"
    log.write_text("".join(f"{line}\n" for line in change(log.read_text().splitlines())))
    found, said = resumed(broken)
    assert found[-4:] == right[-4:]
    assert any(told in remark for remark in said), said


def test_another_teacher_is_refused(tmp_path: Path) -> None:
    from tests.tiny import VIT, tiny_model
    from vitsmith import Bundle, Labels, save
    from vitsmith.models.configure import change

    def teach(seed: int) -> None:
        model = tiny_model(change(VIT, classes=3, image_size=(16, 16)), seed=seed)
        save(Bundle.of(model, labels=Labels(names=("red", "green", "blue"))), tmp_path / "teacher")

    teach(0)
    folder = tmp_path / "run"
    wanted = recipe(distill={"teacher": str(tmp_path / "teacher")}, run={"checkpoint_every": 4})
    with pytest.raises(KeyboardInterrupt), Run("distill", "run", folder) as run_:
        train_to_bundle(wanted, splits(), run_, on_event=interrupt_at(9))
    teach(1)
    with pytest.raises(ConfigError, match="is not the teacher that the run began with"):
        resumed(folder)
    teach(0)
    assert len(resumed(folder)[0]) == 12
