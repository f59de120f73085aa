"""A short form of benchmarks/robustness.py: changed files, strange command lines and kills, and what they come to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests import ROOT

SCRIPT = ROOT / "benchmarks" / "robustness.py"


def robustness(*arguments: str, **numbers: int) -> dict[str, Any]:
    """Counts by row, and the list of faults."""
    given = {"changes": 0, "commands": 0, "kills": 0, "workers": 1} | numbers
    options = [one for name, number in given.items() for one in (f"--{name}", str(number))]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, *options, *arguments, "--json"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=600,
        check=True,
    )
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


@pytest.mark.parametrize("kind", ["changes", "commands", "kills"])
def test_nothing_ends_in_a_wrong_answer_a_traceback_or_a_hang(kind: str) -> None:
    number = {"changes": 80, "commands": 12, "kills": 4}[kind]
    result = robustness(**{kind: number})
    assert result["faults"] == []
    counts = [sum(row.values()) for row in result["counts"].values()]
    assert sum(counts) >= number
    if kind == "changes":
        assert sum(row.get("refused", 0) for row in result["counts"].values()) > number / 3


@pytest.mark.parametrize(
    ("check", "row"),
    [
        ("hashes of a bundle", "bundle, torch"),
        ("golden answers", "bundle, other weights"),
        ("checksums of .npz", "checkpoint .npz"),
    ],
)
def test_it_would_notice_that_a_check_is_gone(check: str, row: str) -> None:
    result = robustness("--only", row, "--without", check, changes=600)
    assert result["counts"][row].get("wrong", 0) > 0
