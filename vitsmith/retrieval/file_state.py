"""The state of a file when it was embedded, and whether the file has changed since.

A file is compared by its size, the time of its last change and, where only the time differs, a hash of its content.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import Any, NamedTuple

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


def is_other(path: str, seen: Seen | None) -> bool:
    """Whether a file is no longer the one that was embedded; False where that cannot be known."""
    if seen is None:
        return False
    try:
        now = os.stat(path)  # noqa: PTH116
        if now.st_size != seen.size:
            return True
        return now.st_mtime_ns != seen.modified and _digest(path) != seen.digest
    except (OSError, ValueError):
        return False


def _digest(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]
