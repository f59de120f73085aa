"""What `duplicates` and `cluster` show beside their groups: progress, the sheet, and what was skipped."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vitsmith.cli.terminal.output import progress, say


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is done, with how much of it is done."""
    with progress(unit="") as bar:
        tasks: dict[str, Any] = {}

        def on_step(doing: str, done: int, count: int) -> None:
            if doing not in tasks:
                tasks[doing] = bar.add_task(doing, total=count, note="")
            bar.update(tasks[doing], completed=done, total=count)

        yield on_step


def absolute(path: str) -> str | None:
    """The whole path of a file; None for a text, which has none."""
    return os.path.abspath(path) if path else None  # noqa: PTH100 - of any text, and links stay as they are


def show_sheet(place: Path, write: Callable[[Callable[[], None]], int]) -> None:
    """Writes a sheet under a bar, and says where it is. `write` returns how many groups have no place on it."""
    with progress(unit="pictures") as bar:
        task = bar.add_task("writing the sheet", total=None, note="")
        left_out = write(lambda: bar.advance(task))
    more = f", with the largest groups: {left_out:,} more have no place on it" if left_out else ""
    say(f"the sheet is {place}{more}")


def tell_unreadable(unreadable: Sequence[tuple[str, str]]) -> None:
    """Says what was skipped. Raises InputError where anything was."""
    from vitsmith.errors import InputError

    for _, reason in unreadable:
        say(f"skipped: {reason}")
    if unreadable:
        told = "1 image" if len(unreadable) == 1 else f"{len(unreadable):,} images"
        raise InputError(f"{told} could not be read or embedded: repair or remove what is named above")
