"""Find files that have changed since they were embedded: their vectors are those of the old images.

A file is compared by its size, the time of its last change and, where only the time differs, a hash of its content.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from vitsmith.retrieval.index import Index

_DIGITS = 32  # hexadecimal digits of SHA-256: enough to tell two versions of one file apart


class Seen(NamedTuple):
    """The state of a file when it was embedded."""

    size: int
    modified: int
    """Nanoseconds since 1970."""
    digest: str


def look_at(source: Any) -> Seen | None:
    """The present state of the file `source`; None when it is not a path, or the file cannot be read."""
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        facts = os.stat(source)  # noqa: PTH116
        return Seen(facts.st_size, facts.st_mtime_ns, _digest(source)) if stat.S_ISREG(facts.st_mode) else None
    except (OSError, ValueError):
        return None


def changed_files(index: Index, positions: Sequence[int] | None = None) -> list[str]:
    """Paths in an index of images whose files were changed since they were embedded; of all, or of those at
    `positions`.

    Missing files are left out: a relative path may not be found from another folder. In an old index without the states
    of files only their times are compared: a file has changed when it is newer than its part of the index.
    """
    if index.space.kind != "images":
        return []
    if positions is None:
        chosen = {part: range(facts.rows) for part, facts in enumerate(index.description.parts)}
        return [name for part, rows in chosen.items() for name in _changed(index, part, rows)]
    by_part: dict[int, list[int]] = {}
    for position in sorted(set(positions)):
        part = int(index.starts.searchsorted(position, side="right")) - 1
        by_part.setdefault(part, []).append(position - int(index.starts[part]))
    return [name for part, rows in by_part.items() for name in _changed(index, part, rows)]


def tell_changed(changed: Sequence[str], count: int, where: object) -> str:
    """A line that names changed files of an index and says what to do."""
    shown = ", ".join(map(repr, changed[:3])) + (", ..." if len(changed) > 3 else "")
    verb, their = ("has", "its vector is") if len(changed) == 1 else ("have", "their vectors are")
    return (
        f"{len(changed):,} of the {count:,} images in {where} {verb} changed since they were embedded ({shown}), and "
        f"{their} from before the change: to embed all again, delete {where} and run  vitsmith embed  again"
    )


def _changed(index: Index, part: int, rows: Sequence[int]) -> list[str]:
    names, seen = index.part_ids(part), index.part_seen(part)
    if seen is None:
        written = index.written_at(part)
        return [names[row] for row in rows if _modified(names[row]) > written]
    return [names[row] for row in rows if _is_other(names[row], seen[row])]


def _is_other(path: str, seen: Seen | None) -> bool:
    if seen is None:
        return False
    try:
        now = os.stat(path)  # noqa: PTH116
        if now.st_size != seen.size:
            return True
        return now.st_mtime_ns != seen.modified and _digest(path) != seen.digest
    except (OSError, ValueError):
        return False


def _modified(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns  # noqa: PTH116
    except (OSError, ValueError):
        return 0


def _digest(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
