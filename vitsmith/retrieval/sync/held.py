"""What an index holds, and an unfinished sync beside it: the file and the state of each row. Each part is read once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from functools import cached_property, partial
from typing import Any, NamedTuple

from vitsmith.data.images.photo import FACTS, FileState
from vitsmith.retrieval.description import Description
from vitsmith.retrieval.folder import current_folder
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.part import PartRows
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


class HeldCopy(NamedTuple):
    """A further file with the content of a row."""

    key: str
    name: str
    state: FileState


class HeldPart:
    """A part, as its files have it."""

    def __init__(self, read: PartRows, at: int, key_of: Callable[[str], str]) -> None:
        self._read = read
        names = read.ids()
        states = read.seen() or [None] * len(names)
        self.facts = read.facts
        self.rows = [HeldRow(at, key_of(name), name, state) for name, state in zip(names, states, strict=True)]
        self.copies = [
            HeldCopy(key_of(name), name, state) for copies in read.copies().values() for name, state in copies
        ]
        self.failed: list[tuple[str, HeldFailure]] = []
        """(key, failure)"""
        for one in read.failed():
            seen = FileState(*one["seen"]) if one.get("seen") else None
            self.failed.append((key_of(one["id"]), HeldFailure(at, one["id"], one["error"], seen)))

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """What is known of each row, by column; read when it is asked for."""
        return self._read.columns()


class Holdings:
    """The rows, copies and failures of an index, and of the parts that an unfinished sync added to it."""

    def __init__(self, index: Index, published: Description) -> None:
        """`index` has the parts of `published`, the description that readers have, and those of an unfinished sync."""
        self.published, self.index = published, index
        self.texts = index.space.kind == "texts"
        self.parts: list[HeldPart] = []
        self.rows: list[HeldRow] = []
        self.copies: dict[str, list[HeldCopy]] = {}
        """By content."""
        self.failed: dict[str, HeldFailure] = {}
        """By key; of several failures of one input the last."""
        self.follow(index)

    def follow(self, index: Index) -> None:
        """Add the parts that `index` has beyond those that are known."""
        index.take_verified(self.index)
        self.index = index
        for at in range(len(self.parts), len(index.description.parts)):
            description = self.published if at < len(self.published.parts) else index.description
            root = description.root or current_folder()
            key_of: Callable[[str], str] = str if self.texts else partial(path_key, root=root)
            part = HeldPart(index.part(at), at, key_of)
            self.parts.append(part)
            self.rows += part.rows
            for one in part.copies:
                self.copies.setdefault(one.state.digest, []).append(one)
            for key, failure in part.failed:
                self.failed.pop(key, None)
                self.failed[key] = failure

    @property
    def published_rows(self) -> int:
        """The number of rows of the index that readers have; they come first."""
        return self.published.count

    def names(self) -> Iterator[tuple[str, str]]:
        """(key, id) of all rows, copies and failures."""
        yield from ((row.key, row.name) for row in self.rows)
        yield from ((one.key, one.name) for copies in self.copies.values() for one in copies)
        yield from ((key, one.name) for key, one in self.failed.items())

    def states(self) -> Iterator[tuple[str, FileState]]:
        """(key, state) of all files, those of the index itself before those that an unfinished sync added."""
        for copies in self.copies.values():
            yield from ((one.key, one.state) for one in copies)
        yield from ((row.key, row.state) for row in self.rows if row.state is not None)

    def columns(self) -> dict[str, dict[str, Any]]:
        """Key -> what is known of it beside what its file says; copies have what is known of their row."""
        found: dict[str, dict[str, Any]] = {}
        for part in self.parts:
            if not set(part.facts.columns) - set(FACTS):
                continue
            columns = {name: values for name, values in part.columns.items() if name not in FACTS}
            for place, row in enumerate(part.rows):
                known = {name: values[place] for name, values in columns.items()}
                found[row.key] = known
                if row.state is not None:
                    found |= {one.key: known for one in self.copies.get(row.state.digest, ())}
        return found

    def contents(self, apart: AbstractSet[str]) -> HeldContents:
        """What the plan needs to know. Files with a content in `apart` have a row each, see `content_of`."""
        rows = [(row.key, content_of(row.key, self._content(row), apart)) for row in self.rows]
        copies: dict[str, list[str]] = {}
        for content, found in self.copies.items():
            for one in found:
                copies.setdefault(content_of(one.key, content, apart), []).append(one.key)
        return HeldContents(rows, self.published_rows, copies)

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
    if os.sep == "/" and "//" not in path and "/." not in path and not path.endswith("/"):
        return path  # as `normpath` would, of a million paths
    if os.pardir in path:
        parts = path.replace(os.altsep or os.sep, os.sep).split(os.sep)  # noqa: PTH206
        if os.pardir in parts:
            after = len(parts) - parts[::-1].index(os.pardir)
            above, below = (os.sep.join(some) for some in (parts[:after], parts[after:]))  # noqa: PTH118
            path = f"{os.path.realpath(above)}{os.sep}{below}"
    return os.path.normpath(path)
