"""Training runs that have not ended: what is said where one is given as a model, or stands in the way of another."""

from __future__ import annotations

from pathlib import Path

import pytest

import vitsmith as vs
from tests.command_line import call
from vitsmith.errors import OutputError, WeightsError
from vitsmith.runs.place import check_place
from vitsmith.weights.unfinished_run import unfinished_run


def run_in(folder: Path, *, recipe: str = "{}", saved: str = "") -> Path:
    """The files of a run that has no model, with what it saved on the way."""
    (folder / saved).mkdir(parents=True)
    (folder / "recipe.json").write_text(recipe)
    (folder / "metrics.jsonl").write_text('{"loss": 1.0}\n')
    (folder / "command.txt").write_text("vitsmith train pets --out pets\n")
    return folder


@pytest.mark.parametrize(
    ("recipe", "saved", "again"),
    [
        ("{}", "checkpoints/step-000174", "vitsmith train --resume"),
        ('{"distill": {"teacher": "t"}}', "checkpoints/step-000174", "vitsmith train --resume"),
        ('{"image": {"init": "m"}}', "checkpoints/step-000174", "vitsmith lit --resume"),
        ('{"image": {"init": "m"}}', "embeddings/train", "vitsmith lit --resume"),
        ("{}", "", "begin it again with its command (command.txt) and --force"),
        ("{}", "checkpoints", "ended before its first checkpoint"),
    ],
)
def test_as_a_model_it_is_refused_with_the_way_to_go_on(capsys, tmp_path, recipe, saved, again) -> None:
    run = run_in(tmp_path / "pets", recipe=recipe, saved=saved)
    with pytest.raises(WeightsError) as told:
        vs.load(run)
    assert again in str(told.value) and "no model" in str(told.value)
    assert again in str(unfinished_run(run))
    code, _, err = call(capsys, "inspect", str(run))
    assert code == 2 and again in err and "not something vitsmith can load" not in err


def test_what_is_no_unfinished_run(tmp_path: Path) -> None:
    finished = run_in(tmp_path / "finished", saved="model")
    (tmp_path / "cake").mkdir()
    (tmp_path / "cake" / "recipe.json").write_text('{"flour": "200 g"}')
    for folder in (finished, tmp_path / "cake", tmp_path / "nothing", finished / "recipe.json"):
        assert unfinished_run(folder) is None


def test_in_the_way_of_another_run_it_is_told_apart_by_what_it_saved(tmp_path: Path) -> None:
    run = run_in(tmp_path / "pets")
    with pytest.raises(
        OutputError, match=r"before its first checkpoint, and cannot be resumed: .* replace it with `force`"
    ):
        check_place("train", run, force=False)
    (run / "checkpoints" / "step-000001").mkdir(parents=True)
    with pytest.raises(OutputError, match="resume it with  vitsmith train --resume"):
        check_place("train", run, force=False)
    check_place("train", run, force=True)
