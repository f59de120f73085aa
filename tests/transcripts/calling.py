"""`vitsmith ...` in this process, in surroundings that are the same everywhere."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tests.pretended import twice_as_fast

TERMINAL = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables by which rich and typer would change a layout."""


class Said(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


@contextmanager
def surroundings() -> Iterator[Path]:
    """An empty folder to work in, 80 columns without colours, a cache of its own, no network and no clock.

    The folder is the current one, and is gone afterwards.
    """
    before = Path.cwd()
    changed = {
        "COLUMNS": "80",
        "LINES": "40",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "VITSMITH_MIRROR": "http://127.0.0.1:1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with tempfile.TemporaryDirectory(prefix="transcripts") as name, mock.patch.dict(os.environ, changed):
        folder = Path(name).resolve() / "here"
        folder.mkdir()
        for variable in TERMINAL:
            os.environ.pop(variable, None)
        os.environ["VITSMITH_CACHE"] = str(folder.parent / "cache")
        os.chdir(folder)
        try:
            with (
                mock.patch("vitsmith.evaluation.speed.time_in_turns", twice_as_fast),
                mock.patch("typer.rich_utils.FORCE_TERMINAL", None),
                mock.patch("typer.rich_utils.MAX_WIDTH", None),
            ):
                yield folder
        finally:
            os.chdir(before)


def call(arguments: list[str]) -> Said:
    """How `vitsmith ARGUMENTS` ends, and what it writes."""
    from vitsmith.cli.main import main

    out, err = _Stream(), _Stream()
    heeded = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
        warnings.simplefilter("ignore")
        try:
            main(arguments)
        except SystemExit as ended:
            code: Any = ended.code
        finally:
            signal.signal(signal.SIGTERM, heeded)
    return Said(code, out.text(), err.text())


def normalised(text: str, here: Path) -> str:
    """The text with a placeholder for each path, version, date and digest that would differ elsewhere."""
    text = text.replace(str(here), "<here>").replace(str(here.parent), "<above>")
    text = text.replace(sys.executable, "<python>").replace(sys.prefix, "<environment>")
    text = re.sub(r"\b[0-9a-f]{12,64}\b", "<digest>", text)
    text = re.sub(r"\b20\d\d-\d\d-\d\d(?:[T ][0-9:.+Z]+)?", "<date>", text)
    return re.sub(r"\b\d+\.\d+\.\d+(?:[+.\w]*\w)?", "<version>", text)


class _Stream(io.TextIOWrapper):
    """Text in memory, with a buffer of bytes as standard output has one."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", newline="\n", write_through=True)

    def text(self) -> str:
        self.flush()
        buffer: Any = self.buffer
        return buffer.getvalue().decode()
