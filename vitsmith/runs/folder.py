"""The folder of a run: its files, the verb that wrote it, and the lock of the process that writes it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from vitsmith.errors import OutputError
from vitsmith.files.failures import explained
from vitsmith.files.locks import HeldError, Lock
from vitsmith.files.workspace import STAND_IN, is_workspace
from vitsmith.json_text import json_or_none

COMMAND, METRICS, LOCK = "command.txt", "metrics.jsonl", ".lock"

MARKS = {
    "quickstart": "results.json",
    "train": "recipe.json",
    "distill": "recipe.json",
    "lit": "recipe.json",
    "evaluate": "scores.json",
    "benchmark": "benchmark.json",
    "quantize": "quantize.json",
    "merge-tokens": "merge.json",
    "prune": "prune.json",
    "compress": "compress.json",
    "probe": "probe.json",
    "recommend": "recommend.json",
}
"""For each verb, the file by which its runs are recognised."""

NOTHING = {COMMAND, LOCK, STAND_IN}
"""Files that say nothing of what a run has done."""


def is_run_of(verb: str, folder: Path) -> bool:
    """Whether a folder is a run of a verb. The recipe shows which of the three training verbs made it."""
    mark, quickstart = folder / MARKS[verb], _is_quickstart(folder)
    if verb == "quickstart" or quickstart:
        return verb == "quickstart" and quickstart
    if MARKS[verb] != "recipe.json":
        return mark.is_file()
    recipe = json_or_none(mark)
    if not isinstance(recipe, dict):
        return False
    return verb == ("lit" if "image" in recipe else "distill" if recipe.get("distill") else "train")


def _is_quickstart(folder: Path) -> bool:
    """Whether the quickstart, which also trains, wrote a folder; an interrupted one is recognised by its command."""
    if (folder / MARKS["quickstart"]).is_file():
        return True
    with suppress(OSError):
        return (folder / COMMAND).read_text(encoding="utf-8", errors="replace").startswith("vitsmith quickstart")
    return False


def holds_anything(folder: Path) -> bool:
    """Whether a folder holds more than the files of a run that was killed before its work began."""
    names = {path.name for path in folder.iterdir() if not is_workspace(path)}
    return bool(names) and not (LOCK in names and names <= NOTHING)


def locked(folder: Path) -> Lock:
    """Lock a run. Raises OutputError, which names the process that has the lock."""
    with explained(folder):
        try:
            return Lock.take(folder / LOCK)
        except HeldError as held:
            raise OutputError(
                f"{folder} is being written by {held}: wait until it ends, or stop it there first"
            ) from None
