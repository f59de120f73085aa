"""The worked example of docs/zeroshot.md, command after command, with few updates in the place of its trainings."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.documentation import ROOT, blocks, commands
from vitsmith.cli.main import app
from vitsmith.data.sets.shapes import HELD_OUT
from vitsmith.retrieval.index import open_index

PAGE = ROOT / "docs" / "zeroshot.md"
SHORT = {
    "train": ["--steps", "4", "--batch-size", "8", "--set", "schedule.warmup=1", "--set", "run.eval_every=0"],
    "lit": ["--steps", "4", "--batch-size", "64", "--set", "schedule.warmup=1"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITSMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def run(arguments: list[str]) -> Any:
    result = CliRunner().invoke(app, arguments, standalone_mode=False)
    assert result.exception is None, f"{shlex.join(arguments)}: {result.exception!r}\n{result.stderr}"
    return result


def test_the_worked_example_runs(here: Path) -> None:
    section = PAGE.read_text(encoding="utf-8").split("## A worked example")[1].split("\n## ")[0]
    (here / "section.md").write_text(section, encoding="utf-8")
    said: list[tuple[list[str], str]] = []
    for block in blocks(here / "section.md"):
        if block.language == "python":
            exec(block.text, {"__name__": "page"})
            continue
        (here / "block.md").write_text(f"```{block.language}\n{block.text}```\n", encoding="utf-8")
        for arguments in commands(here / "block.md"):
            said.append((arguments, run([*arguments, *SHORT.get(arguments[0], [])]).stdout))
    assert [arguments[0] for arguments, _ in said] == [
        "train", "lit", "evaluate", "zeroshot", "evaluate", "embed", "retrieve", "retrieve", "export", "zeroshot",
        "retrieve",
    ]  # fmt: skip
    first, second = (text for arguments, text in said if arguments[0] == "zeroshot")
    assert len(first.splitlines()) == 3 * len(HELD_OUT) and "things/red_star/0.png" in first
    names = [re.split(r"  +", line)[0] for line in first.splitlines()]
    assert [re.split(r"  +", line)[0] for line in second.splitlines()] == names  # the exported towers say the same
    assert len(open_index(here / "things-index")) == 3 * len(HELD_OUT)
    by_image = next(text for arguments, text in said if arguments[0] == "retrieve" and "--images" in arguments)
    score, nearest = by_image.splitlines()[0].split()
    assert float(score) > 0.999 and nearest == "things/red_star/0.png"  # itself, kept in float16
    assert json.loads((here / "shapes-onnx" / "bundle.json").read_text())["programs"][0]["program"] == "onnx"
