"""Folders of training runs that have not ended: how one is recognised, and how to go on with it.

It lies below `runs` because `load` too must tell one, where it is given as a model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vitsmith.escapes import shell_quoted
from vitsmith.json_text import json_or_none


@dataclass(frozen=True)
class UnfinishedRun:
    """A run of `train`, `distill` or `lit` without a model."""

    folder: Path
    verb: str
    """The verb that resumes it: 'train', also for `distill`, or 'lit'."""
    resumable: bool
    """Whether it has a checkpoint, or, of `lit`, embedded images."""

    @property
    def resuming(self) -> str:
        """The command that goes on with it."""
        return f"vitsmith {self.verb} --resume {shell_quoted(str(self.folder))}"

    def __str__(self) -> str:
        """What it is, and what to do, in one line."""
        if self.resumable:
            return f"{self.folder} is an unfinished run and has no model yet: continue it with  {self.resuming}"
        return (
            f"{self.folder} is a run that ended before its first checkpoint: it has no model and cannot be resumed; "
            "begin it again with its command (command.txt) and --force"
        )


def unfinished_run(folder: Path) -> UnfinishedRun | None:
    """The unfinished run in `folder`; None where there is no training run, or one with its model."""
    recipe = json_or_none(folder / "recipe.json")
    if not isinstance(recipe, dict) or (folder / "model").exists():
        return None
    verb = "lit" if "image" in recipe else "train"
    kept = any((folder / "checkpoints").glob("step-*")) or (verb == "lit" and any((folder / "embeddings").glob("*")))
    return UnfinishedRun(folder, verb, kept) if kept or (folder / "command.txt").is_file() else None
