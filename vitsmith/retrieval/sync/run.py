"""Make an index follow a list of images or texts: only what is new or changed is embedded.

The old index stays as it is, for all who read it, until the new one takes its place in one step. What has been embedded
until then is named in sync.json: a sync that was interrupted, or killed, goes on from there.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from vitsmith.data.images.photo import FileState
from vitsmith.data.images.sources import ImageSource
from vitsmith.encode import Encoder
from vitsmith.errors import InputError
from vitsmith.machine import available_cores
from vitsmith.retrieval.folder import current_folder
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.rows import add_rows, check_texts, nothing_read
from vitsmith.retrieval.sync.columns import column_changes, told_changes
from vitsmith.retrieval.sync.files import Files, look_at_files
from vitsmith.retrieval.sync.guards import check_not_emptied, check_others
from vitsmith.retrieval.sync.held import Holdings, content_of, path_key
from vitsmith.retrieval.sync.options import ColumnChanges, IndexOptions, Synced
from vitsmith.retrieval.sync.parts import Wanted, new_parts
from vitsmith.retrieval.sync.plan import SyncPlan, plan
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure


def sync_index(
    encoder: Encoder,
    inputs: Sequence[ImageSource],
    writer: IndexWriter,
    options: IndexOptions,
    columns: Sequence[Mapping[str, Any]] | None = None,
) -> tuple[Index, Synced]:
    """Make the index of `writer`, opened with `sync`, hold exactly `inputs`: paths of images, or texts.

    Files whose size and times are as they were are not read. Others are compared by their content: a file that was
    moved keeps its vector, and files with the same content and columns have one row, see `Index.copies`. Rows that
    stay keep their order, and new ones come after them. `columns` are what else is known of each input; without them,
    files keep what the index knows of them.

    Raises InputError for images that are no files, for files of the index that are not among `inputs` and may still be
    there (unless `drop_others`), for a damaged index, and when nothing can be read: then the index stays as it was.
    """
    return _Sync(encoder, inputs, writer, options, columns).run()


class _Sync:
    def __init__(
        self,
        encoder: Encoder,
        inputs: Sequence[ImageSource],
        writer: IndexWriter,
        options: IndexOptions,
        columns: Sequence[Mapping[str, Any]] | None,
    ) -> None:
        self.encoder, self.writer, self.options = encoder, writer, options
        self.texts = writer.description.space.kind == "texts"
        self.folder = current_folder()
        self.given = columns is not None and any(columns)
        """Whether columns were given, which then replace those of the index."""
        self.names: dict[str, str] = {}
        """Key -> the first name by which it was given."""
        self.columns: dict[str, Mapping[str, Any]] = {}
        for at, name in enumerate(_names_of(inputs, texts=self.texts)):
            key = name if self.texts else path_key(name, self.folder)
            if key not in self.names:
                self.names[key] = name
                if columns is not None:
                    self.columns[key] = columns[at]
            elif columns is not None and columns[at] != self.columns[key]:
                raise InputError(f"{name!r} is given twice, with other columns: give it once")

    def run(self) -> tuple[Index, Synced]:
        holdings = Holdings(self._index(), self.writer.published)
        self._check_whole(holdings.index)
        files = self._files(holdings)
        if not self.given:
            self.columns = {key: known for key, known in holdings.columns().items() if key in self.names}
        first = self._plan(holdings, files)
        check_others(holdings, files.now, first, drop_others=self.options.drop_others)
        check_not_emptied(holdings, first, drop_others=self.options.drop_others)
        if self.options.on_plan is not None:
            self.options.on_plan(len(first.embed))
        root = self._root(holdings, first)
        now, todo = first, first.embed
        while todo:
            self._embed(todo, root, files)
            holdings.follow(self._index())
            now = self._plan(holdings, files)
            todo = now.embed
        if not any(now.names):
            self._check_may_be_empty(holdings)
        ids = self._ids(holdings, root)
        parts = new_parts(holdings, Wanted(now, files, ids, self.columns, self.given), self.writer.part_rows)
        published = self.writer.published
        description = published.model_copy(update={"parts": parts, "complete": True, "root": root})
        if description != published:
            numbered = max(published.next_number, description.next_number)
            description = description.model_copy(update={"numbered": numbered})
        given = [self.columns[key] for key in now.names if key] if self.given else None
        changes = column_changes(holdings, description, given)
        kept = {key: (ids[key], f"{ids[key]}: {why}") for key, why in files.kept.items()}
        index = self.writer.replace(description)
        self._tell_columns(changes)
        return index, _told(now, holdings, kept, changes)

    def _tell_columns(self, changes: ColumnChanges) -> None:
        """Tell what became of the columns; that only some were added, which was asked for, is no warning."""
        tell = self.options.tell
        if tell is None and (changes.dropped or changes.changed):
            tell = partial(warnings.warn, stacklevel=6)
        if tell is not None and any(changes):
            tell(told_changes(changes, self.writer.folder))

    def _check_whole(self, index: Index) -> None:
        """Raise InputError for a damaged part: rows that stay are as they were written.

        The vectors are read for it once, as a search reads them; patches, which are large, are not.
        """
        if index.space.what != "patches":
            index.verify(available_cores())
        for at in range(len(index.description.parts)):
            index.part(at).check_columns()

    def _index(self) -> Index:
        """The index, with what this sync has made so far."""
        return Index(self.writer.folder, self.writer.description)

    def _files(self, holdings: Holdings) -> Files:
        if not self.texts:
            return look_at_files(self.names, holdings, retry=self.options.retry, on_read=self.options.on_read)
        failed = set() if self.options.retry else set(holdings.failed)
        return Files({text: None if text in failed else text for text in self.names}, {}, {}, {})

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
        before = self.writer.published.root
        stay = any(
            name == row.key and not _is_absolute(row.name)
            for name, row in zip(first.names[: holdings.published_rows], holdings.rows, strict=False)
        )
        if self.texts or (before and stay):
            return before
        return "" if all(map(os.path.isabs, self.names.values())) else self.folder

    def _embed(self, keys: Sequence[str], root: str, files: Files) -> None:
        """Embed what `keys` lead to, and note what their contents turned out to be."""
        root = self.writer.lead_from(root)
        names = [self._id(key, root) for key in keys]
        columns = [self.columns.get(key, {}) for key in keys]
        broken = set[str]()
        rows = add_rows(self.encoder, keys, names, self.writer, columns=columns, on_input=self.options.on_input)
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
        self.writer.commit()
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
        if not self.texts:
            ids |= {key: name for key, name in holdings.names() if key in ids and path_key(name, root) == key}
        return ids

    def _check_may_be_empty(self, holdings: Holdings) -> None:
        """Raise InputError when nothing would be left, unless nothing was given to an index that is there."""
        published = self.writer.published
        if not self.names and (published.complete or published.parts):
            return
        if not published.count:
            self.writer.discard()
        else:
            self.writer.forget_sync()
        if not self.names:
            raise InputError(f"there are no {published.space.kind} among the inputs, so there is no index")
        first = next((one.error for key, one in holdings.failed.items() if key in self.names), "there are none")
        if not published.count:
            raise nothing_read(first, len(self.names), texts=self.texts)
        kind = published.space.kind
        told = f"none of the {len(self.names):,} {kind} can" if len(self.names) > 1 else f"the {kind[:-1]} cannot"
        raise InputError(f"{told} be read now ({first}), so {self.writer.folder} stays as it was")


def _told(now: SyncPlan, holdings: Holdings, kept: Mapping[str, tuple[str, str]], columns: ColumnChanges) -> Synced:
    return Synced(
        added=len(now.added),
        changed=len(now.changed),
        removed=len(now.removed),
        moved=len(now.moved),
        copies=sum(map(len, now.copies.values())),
        unchanged=sum(key not in kept for key in now.unchanged),
        unreadable=len(now.unreadable) + len(kept),
        embedded=sum(map(bool, now.names[holdings.published_rows :])),
        removed_names=tuple(now.removed),
        kept_unreadable=tuple(kept.values()),
        columns=columns,
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
