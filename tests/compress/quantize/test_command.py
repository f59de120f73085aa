"""`vitsmith quantize`: the folder of its run, and wrong use."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from vitsmith import Bundle
from vitsmith.cli.quantize import _of_float
from vitsmith.cli.quantize import quantize as verb
from vitsmith.errors import (
    GateError,
    OutputError,
    VitsmithError,
)
from vitsmith.evaluation.speed import Speed, Speedup
from vitsmith.runs.place import check_place
from vitsmith.weights.bundle.folder import read_bundle
from vitsmith.weights.save import save


def cli(*arguments: str) -> Any:
    app = typer.Typer()
    app.command()(verb)
    return CliRunner().invoke(app, list(arguments))


def test_the_verb_writes_a_run_and_does_not_replace_one_by_chance(
    digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(digits.folder), "--data", "digits", "--engine", "onnx", "--calibration", "8", "--limit", "50"]
    done = cli(*given, "--min-speedup", "0.001", "--json")
    assert done.exit_code == 0, done.exception
    run = next((tmp_path / "runs" / "quantize").iterdir())
    facts = json.loads(done.stdout)
    assert facts["written"] == str(run.relative_to(tmp_path) / "model") and facts["chosen"] == "dynamic"
    assert json.loads((run / "quantize.json").read_text()) == facts
    assert {path.name for path in run.iterdir()} == {"model", "quantize.json", "command.txt", "schemes.png"}
    assert read_bundle(run / "model").program_spec.precision == "int8"
    again = cli(*given, "--out", str(run))
    assert isinstance(again.exception, OutputError) and "replace it with `force`" in str(again.exception)
    drawn = (run / "schemes.png").read_bytes()
    kept = cli(*given, "--out", str(run), "--force", "--min-speedup", "1000")
    assert isinstance(kept.exception, GateError) and kept.exception.exit_code == 3
    assert "keep float" in str(kept.exception) and "required 1000" in kept.stdout
    assert read_bundle(run / "model").program == "onnx", "a refusal replaces nothing"
    assert (run / "schemes.png").read_bytes() == drawn, "the picture is that of the run that stays"


def test_a_refusal_leaves_the_table_behind(digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = [str(digits.folder), "--data", "digits", "--engine", "onnx", "--calibration", "8", "--limit", "50"]
    done = cli(*given, "--min-speedup", "1000", "--out", "refused")
    assert isinstance(done.exception, GateError)
    facts = json.loads((tmp_path / "refused" / "quantize.json").read_text())
    assert facts["written"] is None and len(facts["attempts"]) >= 3 and not (tmp_path / "refused" / "model").exists()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "give `images` FOLDER or `data` DATA"),
        (["--images", "."], "no images"),
        (["--images", ".", "--split", "val"], "--split chooses a part of --data"),
        (["--data", "digits", "--split", "train"], "`split` train holds training or calibration images"),
    ],
)
def test_wrong_use_is_told_and_leaves_no_folder(
    arguments: list[str], problem: str, digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli(str(digits.folder), *arguments)
    assert isinstance(done.exception, VitsmithError) and done.exception.exit_code == 2
    assert problem in str(done.exception).replace("No images", "no images")
    assert not list(tmp_path.iterdir())


def test_a_place_that_holds_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(OutputError, match="a folder that quantize did not write"):
        check_place("quantize", tmp_path, force=True)
    with pytest.raises(OutputError, match="a file that quantize did not write"):
        check_place("quantize", tmp_path / "thesis.tex", force=True)


def test_saved_checkpoints_are_quantised_too(digits: Bundle, tmp_path: Path) -> None:
    save(digits, tmp_path / "digits.npz", format="npz")
    (tmp_path / "names.txt").write_text("\n".join(map(str, range(10))))
    done = cli(
        str(tmp_path / "digits.npz"),
        *("--data", "digits", "--labels-file", str(tmp_path / "names.txt"), "--engine", "onnx", "--calibration", "8"),
        *("--limit", "20", "--min-speedup", "0.001", "--out", str(tmp_path / "run")),
    )
    assert done.exit_code == 0, done.exception
    assert read_bundle(tmp_path / "run" / "model").labels == digits.labels


def test_float_in_bf16_is_spoken_of_only_where_it_was_timed() -> None:
    def attempt(rest: str, speedup: Speedup | None) -> Any:
        return SimpleNamespace(name="float", rest=rest, speedup=speedup)

    timed = Speedup(Speed(2, 10, 8), Speed(1, 20, 8), 2, 2)
    both: Any = SimpleNamespace(attempts=[attempt("fp32", None), attempt("bf16", timed)])
    assert _of_float(both) == " (that of float in bf16: beside float in fp32)"
    neither: Any = SimpleNamespace(attempts=[attempt("fp32", None), attempt("bf16", None)])
    assert _of_float(neither) == ""
