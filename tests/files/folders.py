"""Folders that are written, looked at, or left half-written."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from vitsmith.files.atomic import replacing, replacing_folder


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def write_folder(target: Path, word: str) -> None:
    with replacing_folder(target) as partial:
        for name in ("a", "b"):
            (partial / name).write_text(word)


def stay(place: str) -> None:
    with replacing(Path(place, "model")) as partial:
        partial.write_text("half")
        print("writing", flush=True)
        sys.stdin.read() if os.name == "nt" else signal.pause()
