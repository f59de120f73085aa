"""Build an index from images or texts: those that are not in it yet are embedded. E embedding width."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from vitsmith.arguments import flag, instance, named_arguments, path
from vitsmith.data.images.photo import FACTS
from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.encode import Encoder
from vitsmith.errors import ImageError, InputError
from vitsmith.retrieval.changes import file_changes, tell_changed, tell_unrecorded
from vitsmith.retrieval.description import Dtype, Kind, Space
from vitsmith.retrieval.index import Index, identity_of
from vitsmith.retrieval.queries.searchable import SearchableIndex
from vitsmith.retrieval.rows import add_rows, check_texts, nothing_read, rows_of
from vitsmith.retrieval.sync.options import IndexOptions
from vitsmith.retrieval.sync.run import sync_index
from vitsmith.retrieval.writer import IndexWriter

USUAL = IndexOptions()


@named_arguments
def write_index(
    encoder: Encoder,
    inputs: ImageSource | Sequence[ImageSource],
    folder: str | os.PathLike[str],
    *,
    kind: Kind = "images",
    dtype: Dtype = "float16",
    columns: Mapping[str, Sequence[Any]] | None = None,
    sync: bool = False,
    options: IndexOptions = USUAL,
) -> SearchableIndex:
    """Write the embeddings of all `inputs` into the index in `folder`, which may be new, unfinished or complete.

    Args:
        inputs: one or several images, or with kind 'texts' the texts themselves.
        columns: what else is known of them: for each column a value of each input, text, number or None.
        sync: let the index follow `inputs`, whatever it held before: see `sync_index`. The old index can be searched
            until the new one takes its place.
        options: retries, what a sync may remove, and what is called meanwhile.

    The index that it gives is that of `vitsmith.open_index`, with `encoder` as its model.

    Raises what IndexWriter, `build_index` and `sync_index` do, and InputError for texts when the model cannot read
    them, and for columns with a name that means something else.
    """
    instance(options, IndexOptions, "`options`", "a vitsmith.IndexOptions")
    if not flag(sync, "sync") and options.drop_others:
        raise InputError("`drop_others` says what `sync` removes: give `sync` too")
    listed = list(several(inputs))
    rows = rows_of(columns, len(listed))
    space = space_of(encoder, kind, encoder.bundle.where, dtype)
    synced = None
    with IndexWriter(path(folder, "an index"), space, sync=sync) as writer:
        if sync:
            made, synced = sync_index(encoder, listed, writer, options, rows)
        else:
            made = build_index(encoder, listed, writer, options, rows)
    if options.on_synced is not None and synced is not None:
        options.on_synced(synced)
    index = SearchableIndex(made.folder, made.description)
    if index.space.what != "patches":  # which are not searched
        index.encoder = encoder
    return index


def build_index(
    encoder: Encoder,
    inputs: Sequence[ImageSource],
    writer: IndexWriter,
    options: IndexOptions = USUAL,
    columns: Sequence[Mapping[str, Any]] | None = None,
) -> Index:
    """Embed the inputs that are not in the index yet, and return the complete index.

    `inputs` are images, or the texts themselves for an index of texts. Images that cannot be read, and texts without a
    word that the vocabulary knows, are recorded and skipped. Inputs that are done are not read again. With `retry`,
    inputs that could not be read are tried again; those that can be read now are added at the end. Inputs that are done
    keep their vectors and their `columns`: a remark says which files were changed since they were embedded, whether
    that is not known, and that other columns were given.

    Raises InputError when `inputs` do not begin with those that are already in the index, and when nothing in them can
    be read: then there is no index.
    """
    texts = writer.description.space.kind == "texts"
    if texts:
        check_texts(inputs)
    names = [name_of(source, number) for number, source in enumerate(inputs)]
    done = writer.done_of(names)
    if not texts:
        writer.set_root([os.fspath(one) for one in inputs if isinstance(one, str | os.PathLike)], done)
    if done:
        _tell_kept(writer, options, names[:done], columns)

    def embed(chosen: Sequence[int]) -> None:
        if chosen:
            writer.reopen()
        some = [inputs[at] for at in chosen]
        mine = [columns[at] for at in chosen] if columns is not None else None
        names_of_some = [names[at] for at in chosen]
        for _ in add_rows(encoder, some, names_of_some, writer, columns=mine, on_input=options.on_input):
            pass

    if options.retry:
        with writer.retrying():
            embed(_positions(writer.failed(), names[:done]))
    embed(range(done, len(inputs)))
    writer.commit()
    if writer.description.inputs and not writer.description.count:
        writer.discard()
        raise nothing_read(next(Index(writer.folder, writer.description).failed())["error"], len(inputs), texts=texts)
    return writer.finish()


def _tell_kept(
    writer: IndexWriter, options: IndexOptions, done: Sequence[str], columns: Sequence[Mapping[str, Any]] | None
) -> None:
    """Tell what inputs that are done keep from before."""
    index = Index(writer.folder, writer.description)
    tell = options.tell or partial(warnings.warn, stacklevel=5)
    found = file_changes(index)
    if found.changed:
        if options.on_changed is not None:
            options.on_changed(found.changed)
        else:
            tell(tell_changed(found.changed, writer.folder))
    if found.unrecorded:
        tell(tell_unrecorded(found.unrecorded, len(index), writer.folder))
    if columns is not None and (other := _with_other_columns(index, done, columns)):
        tell(
            f"{other:,} of the {len(index):,} {index.space.kind} in {writer.folder} keep columns that differ from "
            "those given now: with `sync` they get these"
        )


def _with_other_columns(index: Index, done: Sequence[str], given: Sequence[Mapping[str, Any]]) -> int:
    """How many rows have other columns than are given for the inputs `done`."""
    ids = [name for part in range(len(index.description.parts)) for name in index.part_ids(part)]
    held = index.columns(*(name for name in index.column_names if name not in FACTS))
    wanted = dict(zip(done, given, strict=False))
    count = 0
    for at, name in enumerate(ids):
        known = {column: values[at] for column, values in held.items() if values[at] is not None}
        count += known != {column: value for column, value in wanted.get(name, {}).items() if value is not None}
    return count


def _positions(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """The positions in `names` of those in `wanted`, each as often as it occurs there."""
    left = Counter(wanted)
    found = []
    for at, name in enumerate(names):
        if left[name]:
            left[name] -= 1
            found.append(at)
    return found


def space_of(encoder: Encoder, kind: str, model: str, dtype: str) -> Space:
    """The description of the encoder's embeddings for an index. `model` is the name that the user gave.

    Raises InputError for texts when the model cannot read them.
    """
    known_as = os.path.abspath(model) if os.path.exists(model) else model  # noqa: PTH100, PTH110 - not resolved
    return Space.model_validate(
        {
            "kind": kind,
            "identity": identity_of(encoder.bundle, kind),
            "model": known_as,
            "engine": encoder.engine.name,
            "precision": encoder.engine.precision,
            "width": encoder.width,
            "dtype": dtype,
            "what": encoder.what,
            "grid": encoder.grid,
        }
    )


def name_of(source: ImageSource | str, number: int) -> str:
    """The name of a source in an index: its path or text; without one, its number and a hash of its content.

    The hash shows when images differ from those that an index was begun with.
    """
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    return f"image {number} (sha256 {hashlib.sha256(_content(source)).hexdigest()[:16]})"


def _content(source: ImageSource) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        pixels = read_image(source)
    except ImageError as error:
        return str(error).encode()
    return f"{pixels.shape} ".encode() + pixels.tobytes()
