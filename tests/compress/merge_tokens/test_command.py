"""`vitsmith merge-tokens`: the folder of its run, a refusal, and bounds that would do nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

import vitsmith as vs
from tests.command_line import call
from tests.compress.merge_tokens.models import bundle_of
from tests.pretended import twice_as_fast
from tests.tiny import pictures
from vitsmith.cli.merge_tokens import _from


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with a bundle and pictures, to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vitsmith.evaluation.speed.time_in_turns", twice_as_fast)
    vs.save(bundle_of().with_golden(pictures(1)), tmp_path / "pets" / "model")
    (tmp_path / "photos").mkdir()
    for number, picture in enumerate(pictures(20)):
        Image.fromarray(picture).save(tmp_path / "photos" / f"{number}.png")
    return tmp_path


def test_the_command_writes_model_numbers_and_picture(folder, capsys):
    pytest.importorskip("matplotlib")
    options = ("--images", "photos", "--keep", "0.83", "--min-agreement", "0", "--min-speedup", "0")
    code, out, err = call(capsys, "merge-tokens", "pets/model", *options)
    assert code == 0, err
    assert "tokens left" in out and "one image" in out and "break-even" in out
    run = folder / "runs" / "merge-tokens" / "pets"
    assert sorted(path.name for path in run.iterdir()) == ["command.txt", "merge.json", "merged.png", "model"]
    assert sum(vs.load(run / "model").config.merge) > 0
    with Image.open(run / "merged.png") as picture:
        assert picture.width > 500
    code, out, err = call(capsys, "merge-tokens", "pets/model", *options, "--tokens", "20")
    assert code == 2 and "give one of them" in err
    code, out, err = call(capsys, "merge-tokens", "pets/model", *options, "--json", "--out", "else")
    assert code == 0 and json.loads(out)["tries"][0]["tokens"] < 31


def test_the_command_refuses_with_3_and_writes_nothing(folder, capsys):
    code, out, err = call(
        capsys, "merge-tokens", "pets/model", "--keep", "0.83", "--min-agreement", "0", "--min-speedup", "99"
    )
    assert code == 3 and "merging does not pay here" in err and "sample photographs" in err
    assert "tokens left" in out and not (folder / "runs").exists()


@pytest.mark.parametrize("verb", ["merge-tokens", "quantize"])
def test_bounds_that_would_do_nothing_are_refused(verb: str, folder, capsys) -> None:
    for options, told in (
        (("--images", "photos", "--max-drop", "1"), "--max-drop is measured on labelled images: give some with --data"),
        (("--data", "photos", "--min-agreement", "0.9"), "--min-agreement is for images without labels: on --data"),
    ):
        code, out, err = call(capsys, verb, "pets/model", *options)
        assert (code, out) == (2, "") and told in err and err.count("\n") == 1
    assert not (folder / "runs").exists()


def test_break_even_is_said_so_that_it_need_not_be_read_twice() -> None:
    assert _from(1.614) == "when at most 62% of the FLOPs are left" and _from(float("inf")) == "never"
