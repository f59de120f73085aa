"""What is tried in a child process: its answers, and how it ended."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

import vitsmith
from vitsmith.process.child import ChildResult, try_in_child

BEGIN = """
import json, os, signal, sys, time
from vitsmith.process.child import answer_parent
task = json.loads(sys.argv[1])
answer = answer_parent()
"""


def tried(code: str, task: dict[str, Any] | None = None, seconds: float = 60) -> ChildResult:
    return try_in_child((sys.executable, "-c", BEGIN + code), task or {}, seconds=seconds)


def test_answers_are_apart_from_what_libraries_print() -> None:
    task = {"path": "caf\u00e9 \udcff", "batches": [1, 8], "threads": None}
    done = tried("print('noise'); os.system('echo noise'); answer(task); answer({'batch': 8})", task)
    assert done == ChildResult((task, {"batch": 8}), "ended with exit code 0 (noise)")


def test_what_is_no_answer_is_left_out() -> None:
    done = try_in_child(
        (sys.executable, "-S", "-c", "print('[1]'); print('no JSON'); print('{\"a\": ')"), {}, seconds=60
    )
    assert done == ChildResult((), "ended with exit code 0 (no output)")


@pytest.mark.parametrize(
    ("code", "how", "name"),
    [
        ("os.kill(os.getpid(), signal.SIGFPE)", "died with SIGFPE", "SIGFPE"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "died with SIGKILL, as happens when memory runs out", "SIGKILL"),
        ("sys.exit(3)", "ended with exit code 3 (no output)", ""),
        ("sys.exit('first\\nlast')", "ended with exit code 1 (last)", ""),
    ],
)
def test_how_it_ended_is_told_in_words(code: str, how: str, name: str) -> None:
    done = tried(f"answer({{'batch': 1}})\n{code}")
    assert done == ChildResult(({"batch": 1},), how, name)


def test_one_that_takes_too_long_is_killed_and_keeps_its_answers() -> None:
    done = tried("answer({'process': os.getpid()}); time.sleep(600)", seconds=10)
    assert done.how == "did not finish within 10 seconds" and done.signal == ""
    with pytest.raises(ProcessLookupError):
        os.kill(done.answers[0]["process"], signal.SIGTERM)


def test_the_child_finds_vitsmith_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    done = tried("import vitsmith; answer({'from': vitsmith.__file__, 'path': os.environ['PYTHONPATH']})")
    assert done.answers[0]["from"] == vitsmith.__file__ and done.answers[0]["path"].endswith(f"{os.pathsep}elsewhere")
