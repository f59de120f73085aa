"""Whether a file has changed since it was embedded.

A file is compared by its size, the times of its last changes and, where only these differ, a hash of its content.
"""

from __future__ import annotations

import os
import re
from typing import Any

from vitsmith.data.images.photo import FileState, state_of
from vitsmith.data.images.sources import read_path
from vitsmith.errors import ImageError

NAMELESS = re.compile(r"image \d+ \(sha256 ([0-9a-f]{16})\)")
"""The name in an index of pixels or bytes that Python gave, which are in no file."""


def look_at(source: Any) -> FileState | None:
    """The present state of the file `source`; None when it is not a path, or the file cannot be read."""
    if not isinstance(source, str | os.PathLike):
        return None
    try:
        data, found = read_path(os.fspath(source))
    except ImageError:
        return None
    return state_of(found, data)


def is_other(path: str | os.PathLike[str], seen: FileState) -> bool:
    """Whether a file is no longer the one that was embedded; False where it is missing or cannot be read."""
    try:
        now = os.stat(path)  # noqa: PTH116 - of any text
    except (OSError, ValueError):
        return False
    if now.st_size != seen.size:
        return True
    if seen.is_still(now):
        return False
    found = look_at(path)
    return found is not None and found.digest != seen.digest
