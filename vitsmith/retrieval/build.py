"""Build an index from images or texts: those that are not in it yet are embedded. E embedding width."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from vitsmith.arguments import flag, named_arguments, path
from vitsmith.data.images.read import read_image
from vitsmith.data.images.sources import ImageSource, several
from vitsmith.encode import Encoder
from vitsmith.errors import ImageError
from vitsmith.retrieval.changes import changed_files, tell_changed
from vitsmith.retrieval.description import Dtype, Kind, Space
from vitsmith.retrieval.index import Index, identity_of
from vitsmith.retrieval.queries.searchable import SearchableIndex, open_index
from vitsmith.retrieval.rows import Progress, add_rows, check_texts, nothing_read, rows_of
from vitsmith.retrieval.sync.run import Following, Synced, sync_index
from vitsmith.retrieval.writer import IndexWriter

Changed = Callable[[Sequence[str]], None]
"""Called with the names of files that have changed since they were embedded."""


@named_arguments
def write_index(
    encoder: Encoder,
    inputs: ImageSource | Sequence[ImageSource],
    folder: str | os.PathLike[str],
    *,
    kind: Kind = "images",
    dtype: Dtype = "float16",
    retry: bool = False,
    sync: bool = False,
    drop_others: bool = False,
    columns: Mapping[str, Sequence[Any]] | None = None,
    on_input: Progress | None = None,
    on_changed: Changed | None = None,
    on_synced: Callable[[Synced], None] | None = None,
) -> SearchableIndex:
    """Write the embeddings of all `inputs` into the index in `folder`, which may be new, unfinished or complete.

    `inputs` are one or several images, or with kind 'texts' the texts themselves. `columns` are what else is known of
    them: for each column a value of each input, text, number or None. `retry`: see `build_index`.

    With `sync` the index follows `inputs`, whatever it held before: see `sync_index`, also for `drop_others`;
    `on_synced` is called with what was done. The old index can be searched until the new one takes its place.

    The index that it gives is that of `vitsmith.open_index`, with `encoder` as its model.

    Raises what IndexWriter, `build_index` and `sync_index` do, and InputError for texts when the model cannot read
    them.
    """
    listed = list(several(inputs))
    rows = rows_of(columns, len(listed))
    space = space_of(encoder, kind, encoder.bundle.where, dtype)
    synced = None
    with IndexWriter(path(folder, "an index"), space, sync=flag(sync, "sync")) as writer:
        if sync:
            how = Following(retry=retry, drop_others=drop_others, columns=rows, on_input=on_input)
            _, synced = sync_index(encoder, listed, writer, how)
        else:
            build_index(encoder, listed, writer, retry=retry, columns=rows, on_input=on_input, on_changed=on_changed)
    if on_synced is not None and synced is not None:
        on_synced(synced)
    index = open_index(writer.folder)
    if index.space.what != "patches":  # which are not searched
        index.encoder = encoder
    return index


def build_index(
    encoder: Encoder,
    inputs: Sequence[ImageSource],
    writer: IndexWriter,
    *,
    retry: bool = False,
    columns: Sequence[Mapping[str, Any]] | None = None,
    on_input: Progress | None = None,
    on_changed: Changed | None = None,
) -> Index:
    """Embed the inputs that are not in the index yet, and return the complete index.

    `inputs` are images, or the texts themselves for an index of texts. Images that cannot be read, and texts without a
    word that the vocabulary knows, are recorded and skipped. Inputs that are done are not read again. With `retry`,
    inputs that could not be read are tried again; those that can be read now are added at the end. Files that were
    changed since they were embedded keep their old vectors: `on_changed` is called with their names, or without it a
    warning names them.

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
    if done and (changed := changed_files(Index(writer.folder, writer.description))):
        (on_changed or partial(_warn, writer))(changed)

    def embed(chosen: Sequence[int]) -> None:
        if chosen:
            writer.reopen()
        some = [inputs[at] for at in chosen]
        mine = [columns[at] for at in chosen] if columns is not None else None
        for _ in add_rows(encoder, some, [names[at] for at in chosen], writer, columns=mine, on_input=on_input):
            pass

    if retry:
        with writer.retrying():
            embed(_positions(writer.failed(), names[:done]))
    embed(range(done, len(inputs)))
    writer.commit()
    if writer.description.inputs and not writer.description.count:
        writer.discard()
        raise nothing_read(next(Index(writer.folder, writer.description).failed())["error"], len(inputs), texts=texts)
    return writer.finish()


def _warn(writer: IndexWriter, changed: Sequence[str]) -> None:
    warnings.warn(tell_changed(changed, writer.description.count, writer.folder), stacklevel=5)


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
