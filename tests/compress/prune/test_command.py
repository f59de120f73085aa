"""`vitsmith prune`: the folder of its run, a refusal, an interruption, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vitsmith as vs
from tests.command_line import call
from tests.pretended import twice_as_fast
from tests.training.small_runs import write_folder
from vitsmith.weights.bundle.bundle import Bundle


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitsmith.evaluation.speed.time_in_turns", twice_as_fast)
    write_folder(tmp_path / "colours")
    return tmp_path


QUICK = ("--batch-size", 8, "--set", "batch.micro=8")


def test_prune_by_the_command_line(taught: Bundle, place: Path, capsys: Any) -> None:
    arguments = ("prune", taught.where, "--data", "colours", "--heads", 2, "--mlp-width", 40, "--steps", 8, *QUICK)
    code, out, err = call(capsys, *arguments)
    assert code == 0, err
    assert "distilled" in out and "heads 4 -> 2, mlp_width 64 -> 48" in out and "runs/prune/colours/model" in out
    assert "mlp_width 40 rounded up to 48, a multiple of 16" in err and "\x1b" not in out + err
    assert vs.load("runs/prune/colours/model").config.mlp_width == 48
    assert json.loads((place / "runs/prune/colours/recipe.json").read_text())["schedule"]["steps"] == 8
    code, out, _ = call(capsys, *arguments, "--out", "there", "--json")
    assert code == 0 and json.loads(out)["written"] == "there/model" and json.loads(out)["failures"] == []
    code, _, err = call(capsys, *arguments, "--out", "there")
    assert code == 2 and "there exists: choose another --out" in err
    code, _, _ = call(capsys, *arguments, "--out", "there", "--force", "--json")
    assert code == 0 and sorted(path.name for path in place.iterdir()) == ["colours", "runs", "there"]


def test_prune_without_labels(taught: Bundle, place: Path, capsys: Any) -> None:
    code, out, err = call(
        capsys,
        "prune",
        taught.where,
        "--images",
        "colours",
        "--keep",
        0.8,
        "--steps",
        8,
        "--method",
        "activation",
        *QUICK,
    )
    assert code == 0, err
    assert "agreement" in out and "12 images without labels" in out and "top-1" not in out
    assert {one.metric for one in vs.load("runs/prune/colours/model").measurements} >= {"agreement", "size"}


def test_a_refusal_shows_the_numbers_and_leaves_nothing(taught: Bundle, place: Path, capsys: Any) -> None:
    code, out, err = call(
        capsys, "prune", taught.where, "--data", "colours", "--depth", 1, "--steps", 0, "--min-speedup", 1000, "--json"
    )
    assert code == 3 and "(required 1000)" in err and json.loads(out)["failures"] and "written" not in json.loads(out)
    assert [path.name for path in place.iterdir()] == ["colours"]


def test_an_interruption_leaves_nothing(
    taught: Bundle, place: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vitsmith.training.images.task.ImageTask.evaluate", interrupt)  # after the last update
    code, out, err = call(
        capsys, "prune", taught.where, "--data", "colours", "--heads", 2, "--steps", 2, "--out", "there", *QUICK
    )
    assert (code, out) == (2, "") and "interrupted; nothing half-written was left" in err
    assert [path.name for path in place.iterdir()] == ["colours"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give labelled ones with --data, or images without labels with --images"),
        (("--data", "colours", "--images", "colours"), "pruning needs images"),
        (("--data", "colours"), "nothing to prune"),
        (("--data", "colours", "--heads", 5), "--heads must be from 1 to 4"),
        (("--data", "colours", "--mlp-width", 0), "--mlp-width must be from 1 to 64"),
        (("--data", "nowhere", "--heads", 2), "nowhere"),
        (("--data", "colours", "--heads", 2, "--steps", 0, "--lr", 0.1), "--steps 0 has none: leave them out"),
        (("--data", "colours", "--heads", 2, "--set", "optimizer.lrr=1"), "did you mean lr"),
        (("--images", "colours", "--images", "nowhere.png", "--heads", 2), "nowhere.png"),
    ],
)
def test_wrong_use_is_one_line(taught: Bundle, place: Path, capsys: Any, arguments: Any, told: str) -> None:
    code, out, err = call(capsys, "prune", taught.where, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1) and told in err
    assert [path.name for path in place.iterdir()] == ["colours"]
