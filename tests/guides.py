"""Guides of the documentation, followed: the changes of a page are made to a copy, and commands run there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from tests import ROOT
from tests.documentation import Block, apply, blocks

GUIDES = sorted((ROOT / "docs").glob("add_*.md"))

Run = Callable[..., str]
"""Runs Python with arguments in the copy and returns what it prints. Fails if it ends with an error."""

_NEW_FILE = re.compile(r"# ((?:vitsmith|tests|docs)/\S+)\n")


def is_file(block: Block) -> bool:
    """Whether a block of Python is a new file, whose path stands in its first line."""
    return _NEW_FILE.match(block.text) is not None


def take_out(page: Path, copy: Path) -> None:
    """Takes out of a copy of the package what `udiff` blocks add, which must be there exactly as the page shows it."""
    for block in reversed(blocks(page, "udiff")):
        assert not re.search(r"^-", block.text, re.MULTILINE), "a change that was made before only adds"
        first, _, body = block.text.partition("\n")
        apply(f"{first}\n{re.sub(r'^[+]', '-', body, flags=re.MULTILINE)}", copy)


def follow(page: Path, copy: Path, files: Iterable[str]) -> Run:
    """Copies the package and some other `files` of the project, and makes the changes of a page there, in its order.

    A `python` block whose first line is the comment `# vitsmith/...` is a new file; a `diff` block changes a file. A
    `udiff` block shows a change that was made before: it is taken out first.
    """
    shutil.copytree(ROOT / "vitsmith", copy / "vitsmith", ignore=shutil.ignore_patterns("__pycache__"))
    take_out(page, copy)
    for name in files:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy / name)
    for block in blocks(page, "python", "diff", "udiff"):
        if block.language != "python":
            apply(block.text, copy)
        elif new := _NEW_FILE.match(block.text):
            (copy / new[1]).parent.mkdir(parents=True, exist_ok=True)
            (copy / new[1]).write_text(block.text[new.end() :], encoding="utf-8")

    def run(*arguments: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=copy, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
