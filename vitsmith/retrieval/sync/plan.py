"""What a sync has to do: a function of what the index holds and what there is now, without a look at any file.

A key is the absolute path of a file, or a text; its content is the hash of the file, or the text itself. A content has
one row, whatever the number of its keys: the others are copies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class HeldContents(NamedTuple):
    """What an index holds."""

    rows: Sequence[tuple[str, str]]
    """(key, content) of each row, in order: first those of the index, then those that an unfinished sync added."""
    published: int
    """The number of rows of the index itself."""
    copies: Mapping[str, Sequence[str]]
    """Content -> the keys that are its copies."""


class SyncPlan(NamedTuple):
    """What becomes of each row and of each key."""

    names: list[str]
    """For each row the key that it has from now on; empty when the row goes."""
    copies: dict[str, list[str]]
    """Content of a row -> the keys that are its copies from now on."""
    embed: list[str]
    """Keys whose contents have no row, in the order of the list; of several keys with one content the first."""
    unchanged: list[str]
    changed: list[str]
    added: list[str]
    """Keys that the index did not have; `moved` ones are not among them."""
    moved: list[tuple[str, str]]
    """(old key, new key): the old one is gone, and the new one has its content."""
    removed: list[str]
    """Keys of rows and copies that are gone; of those that could not be read nothing is lost."""
    unreadable: list[str]


def plan(held: HeldContents, now: Mapping[str, str | None]) -> SyncPlan:
    """What to do so that `held` becomes `now`: key -> content, in the order of the list.

    A content is empty when it is not known yet, and None when it cannot be read.
    """
    before = {key: content for content, keys in held.copies.items() for key in keys}
    before |= {key: content for key, content in held.rows[: held.published] if content}
    there: dict[str, list[str]] = {}
    for key, content in now.items():
        if content:
            there.setdefault(content, []).append(key)
    names, copies = _rows(held, now, before, there)
    done = set(copies)
    embed = [key for key, content in now.items() if content == "" or _is_first(key, content, there, done)]
    return SyncPlan(names, copies, embed, *_told(now, before))


def _rows(
    held: HeldContents, now: Mapping[str, str | None], before: Mapping[str, str], there: Mapping[str, list[str]]
) -> tuple[list[str], dict[str, list[str]]]:
    names: list[str] = []
    copies: dict[str, list[str]] = {}
    for key, content in held.rows:
        keys = there.get(content, [])
        if not keys or content in copies:  # gone, or stored twice by an older index
            names.append("")
            continue
        # Its own name, or else that of a copy, or else a new one: then it was moved.
        name = key if now.get(key) == content else next((one for one in keys if before.get(one) == content), keys[0])
        names.append(name)
        copies[content] = [one for one in keys if one != name]
    return names, copies


def _is_first(key: str, content: str | None, there: Mapping[str, list[str]], done: set[str]) -> bool:
    return content is not None and content not in done and there[content][0] == key


def _told(
    now: Mapping[str, str | None], before: Mapping[str, str]
) -> tuple[list[str], list[str], list[str], list[tuple[str, str]], list[str], list[str]]:
    gone: dict[str, list[str]] = {}
    for key, old in before.items():
        if key not in now:
            gone.setdefault(old, []).append(key)
    unchanged: list[str] = []
    changed: list[str] = []
    added: list[str] = []
    unreadable: list[str] = []
    moved: list[tuple[str, str]] = []
    for key, content in now.items():
        if content is None:
            unreadable.append(key)
        elif key in before:
            (unchanged if before[key] == content else changed).append(key)
        elif gone.get(content):
            moved.append((gone[content].pop(0), key))
        else:
            added.append(key)
    left = {key for keys in gone.values() for key in keys}
    removed = [key for key in before if key in left]  # those that could not be read had no row
    return unchanged, changed, added, moved, removed, unreadable
