"""What users and their scripts meet, kept as files: help texts, errors, JSON and public names.

`python -m tests.transcripts` writes the files anew; `tests/cli/test_transcripts.py` compares. Nothing in them depends
on the machine, the time or the terminal. Other packages lay out help texts and errors: their versions are kept as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent
LAYOUT = FOLDER / "layout.txt"
"""The versions of the packages that lay out help texts and word a part of the errors."""

Files = dict[str, str]
"""Name of a file in the folder -> its text."""


def layout() -> str:
    """The versions of those packages that are installed, one a line."""
    return "".join(f"{package} {version(package)}\n" for package in ("typer", "rich", "pydantic"))


def makers() -> dict[str, Callable[[], Files]]:
    """What makes the files of each kind."""
    from tests.transcripts import help_texts, json_output, mistakes, public_names

    return {
        "help": help_texts.make,
        "errors": mistakes.make,
        "json": json_output.make,
        "public_names": public_names.make,
    }


def kept(kind: str) -> Iterator[Path]:
    """The files of a kind that are in the folder."""
    yield from sorted([*FOLDER.glob(f"{kind}.txt"), *FOLDER.glob(f"{kind}/*")])
