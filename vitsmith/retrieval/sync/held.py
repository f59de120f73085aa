"""What an index holds, and an unfinished sync beside it: the file and the state of each row."""

from __future__ import annotations

import os
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from vitsmith.data.images.photo import FACTS, FileState
from vitsmith.retrieval.description import Description
from vitsmith.retrieval.folder import current_folder
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.sync.plan import HeldContents


class HeldRow(NamedTuple):
    """A row of an index."""

    part: int
    key: str
    """The absolute path of its file; of an index of texts the text."""
    name: str
    """Its id."""
    state: FileState | None
    """None for texts, and where an older index did not record it."""


class HeldFailure(NamedTuple):
    """An input that could not be read."""

    part: int
    name: str
    error: str
    state: FileState | None


class Holdings:
    """The rows, copies and failures of an index, and of the parts that an unfinished sync added to it."""

    def __init__(self, index: Index, begun: Description) -> None:
        """`index` has the parts of `begun`, the description that readers have, and those of an unfinished sync."""
        self.index, self.begun = index, begun
        self.texts = index.space.kind == "texts"
        self.rows: list[HeldRow] = []
        self.copies: dict[str, list[tuple[str, str, FileState]]] = {}
        """Content -> (key, id, state) of its copies."""
        self.failed: dict[str, HeldFailure] = {}
        """By key; of several failures of one input the last."""
        for part in range(len(index.description.parts)):
            self._add(part)

    def _add(self, at: int) -> None:
        part = self.index.part(at)
        names = part.ids()
        states = part.seen() or [None] * len(names)
        root = self.root_of(at)
        self.rows += [
            HeldRow(at, self.key_of(name, root), name, state) for name, state in zip(names, states, strict=True)
        ]
        for content, copies in part.copies().items():
            listed = self.copies.setdefault(content, [])
            listed += [(self.key_of(name, root), name, state) for name, state in copies]
        for one in part.failed():
            seen = FileState(*one["seen"]) if one.get("seen") else None
            key = self.key_of(one["id"], root)
            self.failed.pop(key, None)
            self.failed[key] = HeldFailure(at, one["id"], one["error"], seen)

    def root_of(self, part: int) -> str:
        """The folder from which the relative ids of a part lead."""
        begun = part < len(self.begun.parts)
        return (self.begun if begun else self.index.description).root or current_folder()

    def key_of(self, name: str, root: str) -> str:
        """The key of an id."""
        return name if self.texts else path_key(name, root)

    def states(self) -> Iterator[tuple[str, FileState]]:
        """(key, state) of all files, those of the index itself before those that an unfinished sync added."""
        for copies in self.copies.values():
            yield from ((key, state) for key, _, state in copies)
        yield from ((row.key, row.state) for row in self.rows if row.state is not None)

    def columns(self) -> dict[str, dict[str, Any]]:
        """Key -> what is known of it beside what its file says; copies have what is known of their row."""
        found: dict[str, dict[str, Any]] = {}
        start = 0
        for at, facts in enumerate(self.index.description.parts):
            rows, start = self.rows[start : start + facts.rows], start + facts.rows
            if not set(facts.columns) - set(FACTS):
                continue
            columns = {name: values for name, values in self.index.part(at).columns().items() if name not in FACTS}
            for place, row in enumerate(rows):
                known = {name: values[place] for name, values in columns.items()}
                found[row.key] = known
                if row.state is not None:
                    found |= {key: known for key, *_ in self.copies.get(row.state.digest, ())}
        return found

    def contents(self, apart: AbstractSet[str]) -> HeldContents:
        """What the plan needs to know. Files with a content in `apart` have a row each, see `content_of`."""
        rows = [(row.key, content_of(row.key, self._content(row), apart)) for row in self.rows]
        begun = sum(part.rows for part in self.begun.parts)
        copies: dict[str, list[str]] = {}
        for content, found in self.copies.items():
            for key, *_ in found:
                copies.setdefault(content_of(key, content, apart), []).append(key)
        return HeldContents(rows, begun, copies, frozenset(self.failed))

    def _content(self, row: HeldRow) -> str:
        if self.texts:
            return row.key
        # What an older index embedded is not known: no file has this content, so the row is made again.
        return row.state.digest if row.state is not None else f"unknown: {row.key}"


def content_of(key: str, content: str, apart: AbstractSet[str]) -> str:
    """The content of a key; where it is in `apart`, one that no other key has."""
    return f"{content} of {key}" if content in apart else content


def path_key(name: str, root: str) -> str:
    """The absolute path of the file that a relative path from `root`, or an absolute one, leads to.

    Links stay as they are, but for those before a `..`: `link/..` is the folder of what the link leads to.
    """
    path = os.path.join(root, name)  # noqa: PTH118 - of any text
    if os.pardir in path:
        parts = path.replace(os.altsep or os.sep, os.sep).split(os.sep)  # noqa: PTH206
        if os.pardir in parts:
            after = len(parts) - parts[::-1].index(os.pardir)
            above, below = (os.sep.join(some) for some in (parts[:after], parts[after:]))  # noqa: PTH118
            path = f"{os.path.realpath(above)}{os.sep}{below}"
    return os.path.normpath(path)
