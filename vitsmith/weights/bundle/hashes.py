"""SHA-256 of files, remembered between starts until a file may have changed.

A file counts as unchanged if its device, inode, size, time of change and ctime are the same. Whoever writes to a file
changes its ctime, which no program can set back as it can the time of change. Damage on the disk changes none of these:
`forget`, which `vitsmith inspect` calls, makes all files be hashed again.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from vitsmith.errors import OutputError
from vitsmith.files.atomic import sha256, write_text
from vitsmith.files.cache import cache_folder
from vitsmith.json_text import json_or_none, to_json

LARGE = 1 << 20
"""Size in bytes from which a hash is remembered."""
_SETTLED = 2_000_000_000
"""Least age of a ctime, in nanoseconds: clocks of file systems are coarse, and a file may be written to in the same
tick in which it was hashed."""
_HAS_CTIME = os.name != "nt"
"""Whether st_ctime is the time of the last change of anything: on Windows it is that of creation."""

State = list[int]


def hashes_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of files in a folder, by name: remembered for files that cannot have changed, else computed."""
    found: dict[str, str] = {}
    kept = _recall(folder)
    learned = {}
    for name in names:
        path = folder / name
        state = _state(path)
        known = kept.get(name)
        if state is not None and known is not None and known[0] == state:
            found[name] = known[1]
            continue
        found[name] = sha256(path)
        if state is not None and state == _state(path) and max(state[-2:]) < time.time_ns() - _SETTLED:
            learned[name] = (state, found[name])
    if learned:
        _remember(folder, kept | learned)
    return found


def forget(folder: Path) -> None:
    """Forgets the hashes of a folder's files, so that they are computed again the next time."""
    with suppress(OSError, OutputError):
        _place_of(folder).unlink()


def _state(path: Path) -> State | None:
    """Numbers that change whenever a file is written to; None for files that are not remembered."""
    status = path.stat()
    if not _HAS_CTIME or status.st_size < LARGE:
        return None
    return [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _place_of(folder: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    return cache_folder() / "hashes" / f"{name}.json"


def _recall(folder: Path) -> dict[str, tuple[State, str]]:
    """(state, hash) by name; {} if nothing was remembered, or it cannot be read."""
    try:
        kept = json_or_none(_place_of(folder))
    except OutputError:  # there is no cache
        return {}
    if not isinstance(kept, dict):
        return {}
    return {
        name: (one[0], one[1])
        for name, one in kept.items()
        if isinstance(one, list) and len(one) == 2 and isinstance(one[0], list) and isinstance(one[1], str)
    }


def _remember(folder: Path, hashes: dict[str, tuple[State, str]]) -> None:
    with suppress(OutputError):
        write_text(_place_of(folder), to_json(hashes, ascii_only=True) + "\n", durable=False)
