"""Make an index follow a list of images or texts: only what is new or changed is embedded.

The old index stays as it is, for all who read it, until the new one takes its place in one step. What has been embedded
until then is named in sync.json: a sync that was interrupted, or killed, goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsmith.data.images.photo import FileState
from vitsmith.data.images.sources import ImageSource
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.retrieval.folder import current_folder
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.rows import Progress, add_rows, check_texts, nothing_read
from vitsmith.retrieval.sync.files import Files, look_at_files
from vitsmith.retrieval.sync.guards import check_not_emptied, check_others
from vitsmith.retrieval.sync.held import Holdings, content_of, path_key
from vitsmith.retrieval.sync.parts import Wanted, new_parts
from vitsmith.retrieval.sync.plan import SyncPlan, plan
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure


@dataclass(frozen=True)
class Synced:
    """What a sync found: numbers of files, or of texts."""

    added: int
    changed: int
    removed: int
    moved: int
    """Files with another path than before, whose vectors were kept."""
    copies: int
    """Files of the index that have the content of another one, and share its row."""
    unchanged: int
    unreadable: int
    embedded: int
    """Rows that were computed, by this sync and by those before it that were interrupted."""
    removed_names: tuple[str, ...] = field(default=(), repr=False)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}


@dataclass(frozen=True)
class Following:
    """How a sync is done.

    `retry`: inputs that could not be read and are unchanged are tried again. `drop_others`: files of the index that are
    still there, but not among the inputs, are removed from it. `columns`: what else is known of each input; without it,
    files keep what the index knows of them.
    """

    retry: bool = False
    drop_others: bool = False
    columns: Sequence[Mapping[str, Any]] | None = None
    on_input: Progress | None = None
    on_read: Callable[[], None] | None = None
    """Called for each file that is read to compare its content."""
    on_plan: Callable[[int], None] | None = None
    """Called with the number of inputs to embed, before they are."""


def sync_index(
    encoder: Encoder, inputs: Sequence[ImageSource], writer: IndexWriter, how: Following
) -> tuple[Index, Synced]:
    """Make the index of `writer`, opened with `sync`, hold exactly `inputs`: paths of images, or texts.

    Files whose size and times are as they were are not read. Others are compared by their content: a file that was
    moved keeps its vector, and files with the same content and columns have one row, see `Index.copies`. Rows that
    stay keep their order, and new ones come after them.

    Raises InputError for images that are no files, for files of the index that are still there but not among `inputs`
    (unless `drop_others`), and when nothing of the index would be left: then it stays as it was.
    """
    return _Sync(encoder, inputs, writer, how).run()


class _Sync:
    def __init__(self, encoder: Encoder, inputs: Sequence[ImageSource], writer: IndexWriter, how: Following) -> None:
        self.encoder, self.writer, self.how = encoder, writer, how
        self.texts = writer.description.space.kind == "texts"
        self.folder = current_folder()
        self.names: dict[str, str] = {}
        """Key -> the first name by which it was given."""
        self.columns: dict[str, Mapping[str, Any]] = {}
        for at, name in enumerate(_names_of(inputs, texts=self.texts)):
            key = name if self.texts else path_key(name, self.folder)
            if key not in self.names:
                self.names[key] = name
                if how.columns is not None:
                    self.columns[key] = how.columns[at]
            elif how.columns is not None and how.columns[at] != self.columns[key]:
                raise InputError(f"{name!r} is given twice, with other columns: give it once")

    def run(self) -> tuple[Index, Synced]:
        holdings = self._holdings()
        files = self._files(holdings)
        if self.how.columns is None:
            self.columns = {key: known for key, known in holdings.columns().items() if key in self.names}
        first = self._plan(holdings, files)
        check_others(holdings, files.now, first, drop_others=self.how.drop_others)
        check_not_emptied(holdings, first, drop_others=self.how.drop_others)
        if self.how.on_plan is not None:
            self.how.on_plan(len(first.embed))
        root = self._root(holdings, first)
        now, todo = first, first.embed
        while todo:
            self._embed(todo, root, files)
            holdings = self._holdings()
            now = self._plan(holdings, files)
            todo = now.embed
        if not any(now.names):
            self._refuse_nothing(holdings)
        parts = new_parts(holdings, Wanted(now, files, self._ids(holdings, root), self.columns), self.writer.part_rows)
        told = self._told(now)
        begun = self.writer.begun
        description = begun.model_copy(update={"parts": parts, "complete": True, "root": root})
        if description != begun:
            numbered = max(begun.next_number, description.next_number)
            description = description.model_copy(update={"numbered": numbered})
        return self.writer.replace(description), told

    def _holdings(self) -> Holdings:
        return Holdings(Index(self.writer.folder, self.writer.description), self.writer.begun)

    def _files(self, holdings: Holdings) -> Files:
        if not self.texts:
            return look_at_files(self.names, holdings, retry=self.how.retry, on_read=self.how.on_read)
        failed = set() if self.how.retry else set(holdings.failed)
        return Files({text: None if text in failed else text for text in self.names}, {}, {})

    def _plan(self, holdings: Holdings, files: Files) -> SyncPlan:
        """What is to do. Files with one content share a row, unless their columns differ: then each has its own."""
        apart = set[str]()
        first: dict[str, dict[str, Any]] = {}
        for key, content in files.now.items() if self.columns else ():
            if content:
                known = {name: value for name, value in self.columns.get(key, {}).items() if value is not None}
                if first.setdefault(content, known) != known:
                    apart.add(content)
        now = {key: content and content_of(key, content, apart) for key, content in files.now.items()}
        return plan(holdings.contents(apart), now)

    def _root(self, holdings: Holdings, first: SyncPlan) -> str:
        """The folder from which relative ids lead from now on."""
        before = self.writer.begun.root
        begun = len(self.writer.begun.parts)
        stay = any(
            name == row.key and not _is_absolute(row.name)
            for name, row in zip(first.names, holdings.rows, strict=True)
            if row.part < begun
        )
        if self.texts or (before and stay):
            return before
        return "" if all(map(os.path.isabs, self.names.values())) else self.folder

    def _embed(self, keys: Sequence[str], root: str, files: Files) -> None:
        """Embed what `keys` lead to, and note what their contents turned out to be."""
        writer = self.writer
        if len(writer.description.parts) > len(writer.begun.parts):
            root = writer.description.root  # of what an interrupted sync embedded, or this one just before
        else:
            writer.description = writer.description.model_copy(update={"root": root})
        names = [self._id(key, root) for key in keys]
        columns = [self.columns.get(key, {}) for key in keys]
        broken = set[str]()
        rows = add_rows(self.encoder, keys, names, writer, columns=columns, on_input=self.how.on_input)
        for key, one in zip(keys, rows, strict=True):
            if one.state is not None:
                files.states[key] = one.state
            files.facts.pop(key, None)
            planned = files.now[key]
            if isinstance(one.answer, Failure):
                files.now[key] = None
                if planned:
                    broken.add(planned)
            else:
                files.now[key] = key if self.texts else _digest(one.state, key)
        writer.commit()
        for key, content in files.now.items():
            if content in broken:  # copies of what cannot be read: each is told by its name
                files.now[key] = ""

    def _id(self, key: str, root: str) -> str:
        """The id of a key that the index does not have yet."""
        name = self.names[key]
        if self.texts or _is_absolute(name) or root == self.folder:
            return name
        inside = root and key.startswith(root.rstrip(os.sep) + os.sep)
        return os.path.relpath(key, root) if inside else key

    def _ids(self, holdings: Holdings, root: str) -> dict[str, str]:
        """Key -> id of all keys: one that the index has keeps its id where that leads to it."""
        ids = {key: self._id(key, root) for key in self.names}
        if self.texts:
            return ids
        recorded = [(row.key, row.name) for row in holdings.rows]
        recorded += [(key, name) for copies in holdings.copies.values() for key, name, _ in copies]
        recorded += [(key, one.name) for key, one in holdings.failed.items()]
        ids |= {key: name for key, name in recorded if key in ids and path_key(name, root) == key}
        return ids

    def _refuse_nothing(self, holdings: Holdings) -> None:
        """Raise InputError: nothing would be left."""
        first = next((one.error for key, one in holdings.failed.items() if key in self.names), "there are none")
        if not self.writer.begun.count:
            self.writer.discard()
            raise nothing_read(first, len(self.names), texts=self.texts)
        self.writer.forget_sync()
        raise InputError(
            f"none of the {len(self.names):,} {self.writer.begun.space.kind} can be read now ({first}), so "
            f"{self.writer.folder} stays as it was"
        )

    def _told(self, now: SyncPlan) -> Synced:
        begun = sum(part.rows for part in self.writer.begun.parts)
        return Synced(
            added=len(now.added),
            changed=len(now.changed),
            removed=len(now.removed),
            moved=len(now.moved),
            copies=sum(map(len, now.copies.values())),
            unchanged=len(now.unchanged),
            unreadable=len(now.unreadable),
            embedded=sum(map(bool, now.names[begun:])),
            removed_names=tuple(now.removed),
        )


def _names_of(inputs: Sequence[ImageSource], *, texts: bool) -> list[str]:
    if texts:
        check_texts(inputs)
        return [text for text in inputs if isinstance(text, str)]
    names = [os.fspath(one) for one in inputs if isinstance(one, str | os.PathLike)]
    if len(names) < len(inputs):
        raise InputError("`sync` follows image files, and some of these images are not files: give their paths")
    return names


def _is_absolute(name: str) -> bool:
    return os.path.isabs(name)  # noqa: PTH117 - a million of them


def _digest(state: FileState | None, key: str) -> str:
    if state is None or not state.digest:
        raise InputError(f"{key} was embedded, but is no file: give paths of image files")
    return state.digest
