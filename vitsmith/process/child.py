"""Work in a child process, which ends with this one and may crash: its answers, and how it ended, in words."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitsmith.errors import InputError
from vitsmith.json_text import parse_json, to_json

_HOME = Path(__file__).parents[2]
"""The folder that vitsmith is imported from."""

_running: set[subprocess.Popen[str]] = set()


def run_child(
    command: Sequence[str], *, seconds: float, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return its exit code, output and error output.

    It is killed when this process is interrupted, and after `seconds`; then a `subprocess.TimeoutExpired` holds its
    output so far. Raises OSError when it cannot be started.
    """
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        env=env,
        cwd=cwd,
    ) as child:
        _running.add(child)
        try:
            output, complaints = child.communicate(timeout=seconds)
        except BaseException as error:
            child.kill()
            if isinstance(error, subprocess.TimeoutExpired):
                error.output = child.communicate()[0]
            raise
        finally:
            _running.discard(child)
        return subprocess.CompletedProcess(command, child.returncode, output, complaints)


@dataclass(frozen=True)
class ChildResult:
    """What a child process answered to the task that it was given, and how it ended."""

    answers: tuple[dict[str, Any], ...]
    how: str
    """'died with SIGSEGV', 'ended with exit code 1 (no such file)', 'did not finish within 900 seconds'."""
    signal: str = ""
    """The name of the signal that it died with; '' when it ended in another way."""


def try_in_child(command: Sequence[str], task: Mapping[str, Any], *, seconds: float) -> ChildResult:
    """Run a Python command, whose last argument is the task in JSON, with `vitsmith` importable.

    The child answers by `answer_parent`. It is killed after `seconds`.
    """
    try:
        done = run_child([*command, to_json(task, ascii_only=True)], seconds=seconds, env=_environment())
    except subprocess.TimeoutExpired as late:
        return ChildResult(tuple(_answers(late.output or "")), f"did not finish within {seconds:g} seconds")
    name = signal_name(-done.returncode) if done.returncode < 0 else ""
    return ChildResult(tuple(_answers(done.stdout)), _how(done.returncode, done.stderr), name)


def follow_child(
    command: Sequence[str],
    task: Mapping[str, Any],
    *,
    seconds: float,
    on_answer: Callable[[dict[str, Any]], None],
) -> ChildResult:
    """As `try_in_child`, and `on_answer` is called with each answer when it comes."""
    answers: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            [*command, to_json(task, ascii_only=True)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=complaints, text=True, encoding="utf-8", errors="replace", env=_environment(),
        ) as child,
    ):  # fmt: skip
        _running.add(child)
        late = threading.Timer(seconds, child.kill)
        late.start()
        try:
            assert child.stdout is not None
            for line in child.stdout:
                for answer in _answers(line):
                    answers.append(answer)
                    on_answer(answer)
            code = child.wait()
        except BaseException:
            child.kill()
            raise
        finally:
            killed = not late.is_alive()
            late.cancel()
            _running.discard(child)
        if killed and code < 0:
            return ChildResult(tuple(answers), f"did not finish within {seconds:g} seconds")
        complaints.seek(0)
        name = signal_name(-code) if code < 0 else ""
        return ChildResult(tuple(answers), _how(code, complaints.read()), name)


def answer_parent() -> Callable[[Mapping[str, Any]], None]:
    """Return the function by which a child answers; whatever a library prints from now on goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def write(answer: Mapping[str, Any]) -> None:
        answers.write(to_json(answer, ascii_only=True) + "\n")
        answers.flush()

    return write


def signal_name(number: int) -> str:
    """'SIGSEGV' for 11."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_children() -> None:
    """Kill the child processes that still run, before this process ends."""
    for child in tuple(_running):
        with suppress(OSError):
            child.kill()


def _environment() -> dict[str, str]:
    """The environment of a child that can import vitsmith."""
    places = [str(_HOME), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(places)}


def _answers(output: str) -> Iterator[dict[str, Any]]:
    for line in output.splitlines():
        with suppress(InputError):  # an incomplete line
            answer = parse_json(line, "an answer")
            if isinstance(answer, dict):
                yield answer


def _how(code: int, complaints: str) -> str:
    """How a child ended, from its exit code (negative: a signal) and the last line of its error output."""
    if code < 0:
        name = signal_name(-code)
        return f"died with {name}" + (", as happens when memory runs out" if name == "SIGKILL" else "")
    last = (complaints.strip().splitlines() or ["no output"])[-1]
    return f"ended with exit code {code} ({last[:200]})"
