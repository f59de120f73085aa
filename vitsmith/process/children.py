"""Child processes that work for this one, and end with it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

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


def end_children() -> None:
    """Kill the child processes that still run, before this process ends."""
    for child in tuple(_running):
        with suppress(OSError):
            child.kill()
