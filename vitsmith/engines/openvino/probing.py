"""Runs `vitsmith.engines.openvino.probe` in a child process and says how it ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import vitsmith
from vitsmith.engines.plan import Plan
from vitsmith.errors import BundleError, InputError
from vitsmith.json_text import to_json
from vitsmith.process.children import run_child

COMMAND = (sys.executable, "-m", "vitsmith.engines.openvino.probe")
LONGEST = 900
"""Most seconds for a probe: the largest published models compile in less than two minutes on two cores."""

_FAULTS = {"SIGFPE", "SIGILL", "SIGSEGV", "SIGBUS", "SIGABRT", "SIGTRAP"}
"""Signals of a broken kernel. Others come from outside: too little memory, or a user who stops it."""


class EngineDied(InputError):  # noqa: N818
    """A program crashed its process; `lasting` says whether it would do so again."""

    def __init__(self, message: str, *, lasting: bool) -> None:
        super().__init__(message)
        self.lasting = lasting


@dataclass(frozen=True)
class Probe:
    """The result of a probe."""

    rates: tuple[float, ...] = ()
    """Images a second of each plan."""
    died: str = ""
    """How the child ended, if it did not answer."""
    lasting: bool = False
    """Whether it would end in the same way again."""


def probe(path: Path, hint: str, batch: int | None, plans: Sequence[Plan]) -> Probe:
    """Compiles and runs a program with each plan, in a child. Raises BundleError for a file that is no program."""
    task = {"path": str(path), "hint": hint, "batch": batch, "plans": [plan.to_dict() for plan in plans]}
    home = str(Path(vitsmith.__file__).parent.parent)
    places = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = run_child(
            [*COMMAND, to_json(task, ascii_only=True)],
            seconds=LONGEST,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
        )
    except subprocess.TimeoutExpired:
        return Probe(died=f"did not finish within {LONGEST} seconds")
    if done.returncode < 0:
        name = signal_name(-done.returncode)
        return Probe(died=f"died with {name}", lasting=name in _FAULTS)
    try:
        answer = json.loads(done.stdout)
        if "error" in answer:
            raise BundleError(answer["error"])
        return Probe(rates=tuple(map(float, answer["rates"])))
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return Probe(died=f"ended with exit code {done.returncode} ({last[:200]})")


def signal_name(number: int) -> str:
    """'SIGSEGV' for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
