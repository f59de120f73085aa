"""The present contents of the files that an index is to follow: only those that may have changed are read."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from vitsmith.data.images.photo import FileState, Photo
from vitsmith.errors import ImageError
from vitsmith.machine import available_cores
from vitsmith.retrieval.sync.held import Holdings

_MOST_THREADS = 16
_TOGETHER = 1024
"""So many files are handed to the threads at once: each of a million waiting ones takes memory."""


class Files(NamedTuple):
    """What is known of the listed files, by key."""

    now: dict[str, str | None]
    """Content; empty where it is not known yet, None for files that cannot be read."""
    states: dict[str, FileState]
    """Of those with a content, and of those that cannot be read, as far as known."""
    facts: dict[str, dict[str, Any]]
    """`Photo.facts` of those that were read."""
    kept: dict[str, str]
    """Why files cannot be read that count as unchanged, as their sizes and times are what they were."""


def look_at_files(
    listed: Iterable[str], holdings: Holdings, *, retry: bool, on_read: Callable[[], None] | None = None
) -> Files:
    """The contents of the `listed` keys.

    A file whose size and times are those that were recorded is not read. Another is, when it may have a content that
    the index holds, or that another file of the list has; the rest is read once, when it is embedded. Files that could
    not be read and are unchanged count as unreadable, unless `retry`. `on_read` is called after each file that is read.
    """
    known = dict(holdings.states())
    found = {key: _stat(key) for key in listed}
    files = Files({}, {}, {}, {})
    wanted: list[str] = []
    sizes = Counter(one.st_size for one in found.values() if one is not None)
    held = {state.size for state in known.values()}
    for key, stat in found.items():
        failed = holdings.failed.get(key)
        state = known.get(key) or (failed.state if failed else None)
        files.now[key] = ""
        if state is not None and stat is not None and state.is_still(stat):
            files.states[key] = state
            files.now[key] = state.digest if key in known else "" if retry else None
        elif stat is not None and (state is not None or stat.st_size in held or sizes[stat.st_size] > 1):
            wanted.append(key)
    unread = _read(wanted, files, on_read)
    for key in wanted:
        if key in unread:
            _keep(key, unread[key], files, known.get(key))
        else:
            _settle(key, files, holdings, is_held=key in known, retry=retry)
    return files


def _keep(key: str, why: str, files: Files, before: FileState | None) -> None:
    """Decide about a file that cannot be read: only its rights have changed, or it is another."""
    stat = _stat(key)
    if before is not None and stat is not None and (stat.st_size, stat.st_mtime_ns) == before[:2]:
        files.states[key], files.now[key] = before, before.digest
        files.kept[key] = why


def _settle(key: str, files: Files, holdings: Holdings, *, is_held: bool, retry: bool) -> None:
    """Decide about a file that was read."""
    digest, failed = files.states[key].digest, holdings.failed.get(key)
    files.now[key] = digest
    if not is_held and failed is not None and failed.state is not None and failed.state.digest == digest:
        files.now[key] = "" if retry else None


def _read(keys: list[str], files: Files, on_read: Callable[[], None] | None) -> Mapping[str, str]:
    """Read files, and return why some cannot be."""
    unread: dict[str, str] = {}
    with ThreadPoolExecutor(min(available_cores(), _MOST_THREADS), thread_name_prefix="look") as pool:
        try:
            for at in range(0, len(keys), _TOGETHER):
                some = keys[at : at + _TOGETHER]
                for key, (photo, why) in zip(some, pool.map(_photo, some), strict=True):
                    if photo.facts and photo.state is not None:
                        files.states[key], files.facts[key] = photo.state, photo.facts
                    else:
                        unread[key] = why
                    if on_read is not None:
                        on_read()
        finally:
            pool.shutdown(cancel_futures=True)
    return unread


def _photo(key: str) -> tuple[Photo, str]:
    """A file that was read, or why it cannot be: unless it is kept, that is told when it is to be embedded."""
    photo = Photo(key)
    try:
        photo.read_all()
    except ImageError as error:
        photo.facts = {}
        return photo, str(error)
    return photo, ""


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - of any text
    except (OSError, ValueError):
        return None
