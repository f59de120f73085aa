"""`vitsmith embed`: images or texts as vectors on disk."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.index_options import check_sync, columns_beside
from vitsmith.cli.arguments.inputs import images_of, labelled, open_model, tell_choice
from vitsmith.cli.arguments.listed_images import listed_images
from vitsmith.cli.arguments.options import (
    BatchSizeOption,
    DataInsteadOption,
    EngineOption,
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    ModelArgument,
    PartOption,
    PrecisionOption,
    ReadAsOption,
    VocabularyOption,
)
from vitsmith.cli.arguments.texts import read_texts, tell_cut, tell_unknown
from vitsmith.cli.terminal.index_report import facts_of, report_index, report_sync, tell_left_out
from vitsmith.cli.terminal.index_sync import synced_index
from vitsmith.cli.terminal.output import progress, say

if TYPE_CHECKING:
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.description import Description, Space
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.writer import IndexWriter

_NOT_FOLDERS = (".arrow", ".csv", ".feather", ".h5", ".json", ".jsonl", ".pkl", ".pt", ".safetensors", ".tsv", ".txt")


class WhatOption(StrEnum):
    """What of an image is written."""

    pooled = "pooled"
    class_ = "class"
    patches = "patches"


class Dtype(StrEnum):
    """The type of the stored numbers."""

    float16 = "float16"
    float32 = "float32"


def embed(
    model: ModelArgument,
    out: Annotated[Path, typer.Option(help="Index folder (for retrieve), or a .npz, .npy or .parquet file.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGES", help="Image files, folders or globs; - reads standard input."),
    ] = None,
    data: DataInsteadOption = "",
    split: PartOption = "",
    image_column: ImageColumnOption = "",
    columns: Annotated[
        str, typer.Option(help="Columns of the table --data to keep in the index, separated by commas; or all.")
    ] = "",
    texts_file: Annotated[
        str, typer.Option(help="Embed texts instead of images: a file with one a line; - reads standard input.")
    ] = "",
    what: Annotated[
        WhatOption,
        typer.Option(
            help="Of an image: pooled, its embedding; class, its class token; patches, the features of all patches as "
            "they are after the last norm, (rows, columns, width)."
        ),
    ] = WhatOption.pooled,
    dtype: Annotated[Dtype, typer.Option(help="float16, or float32 (twice the size).")] = Dtype.float16,
    batch_size: BatchSizeOption = 32,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    vocabulary: VocabularyOption = None,
    force: ForceOption = False,
    retry: Annotated[bool, typer.Option("--retry", help="Try images again that could not be read before.")] = False,
    sync: Annotated[
        bool, typer.Option("--sync", help="Make the index follow the inputs: added, changed, removed, moved.")
    ] = False,
    drop_others: Annotated[
        bool, typer.Option("--drop-others", help="With --sync: remove images that are not among the inputs, too.")
    ] = False,
    allow_unreadable: Annotated[
        bool, typer.Option("--allow-unreadable", help="Exit code 0 although some could not be read.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write unit vectors of images or texts, or patch features. After an interruption, the same command continues.

    Unreadable images are reported, skipped, and make the exit code 2; once they are repaired, --retry adds them. With
    --sync an index follows its photos: only those that are new or changed are embedded.
    """
    from vitsmith.encode import Encoder
    from vitsmith.errors import InputError
    from vitsmith.retrieval.build import space_of
    from vitsmith.retrieval.changes import tell_changed
    from vitsmith.retrieval.single_file import check_names

    folder = _place(out, force)
    texts = bool(texts_file)
    check_sync(out, folder, sync=sync, force=force, drop_others=drop_others)
    if texts and what is not WhatOption.pooled:
        raise InputError(f"--what {what.value} is for images, and a text has one vector: leave it out")
    sources = _sources(inputs or [], labelled(data, image_column, split=split), split, texts_file, may_be_empty=sync)
    if folder != out:
        check_names(out, sources)
    beside = columns_beside(columns, data, image_column, sources)
    if not texts:
        sources, beside = listed_images(sources, beside, None if force or sync else folder)
    bundle = open_model(model, image_size, read_as, headless=True, vocabulary=vocabulary)
    if not texts:
        bundle.check_preprocessing()
    count = 0 if texts else len(sources)
    encoder = Encoder(bundle, engine, batch_size=batch_size, precision=precision, num_images=count, what=what.value)
    tell_choice(encoder.engine)
    cut = tell_cut(encoder, sources) if texts else 0
    if texts:
        tell_unknown(encoder, sources)
    space = space_of(encoder, "texts" if texts else "images", model, dtype.value)
    if force:
        _remove_earlier(out)
    if sync:
        index, synced = synced_index(
            encoder, sources, space, folder, retry=retry, drop_others=drop_others, columns=beside
        )
        facts = facts_of(index, out, list(index.failed())) | {"cut": cut}
        report_sync(index, synced, facts, json)
        tell_left_out(index, facts, len(sources), allowed=allow_unreadable, synced=synced)
        return
    changed: list[str] = []
    index, before, failed = _index(encoder, sources, space, folder, out, retry=retry, changed=changed, columns=beside)
    facts = facts_of(index, out, failed) | {"cut": cut, "changed": len(changed)}
    report_index(index, facts, before, json)
    if changed:
        say(tell_changed(changed, out))
    tell_left_out(index, facts, len(sources), allowed=allow_unreadable)


def _index(
    encoder: Encoder,
    sources: list[Any],
    space: Space,
    folder: Path,
    out: Path,
    *,
    retry: bool,
    changed: list[str],
    columns: list[dict[str, Any]] | None,
) -> tuple[Index, Description, list[dict[str, str]]]:
    """The index in `folder`, which also becomes the file `out`; its description before, and what failed."""
    from vitsmith.errors import Interrupted
    from vitsmith.retrieval.folder import remove_index
    from vitsmith.retrieval.single_file import write_single_file
    from vitsmith.retrieval.writer import IndexWriter

    if folder != out and out.exists() and (finished := _finished(folder, space, sources)):
        index, before = finished, finished.description
    else:
        with IndexWriter(folder, space) as writer:
            before = writer.description
            try:
                index = _build(encoder, sources, writer, retry, changed, columns)
                if folder != out:
                    write_single_file(index, out)
            except KeyboardInterrupt:
                writer.commit()
                done = f"{writer.description.inputs:,} of {len(sources):,} {space.kind}"
                raise Interrupted(
                    f"interrupted; {done} are in {folder}: the same command continues from there"
                ) from None
    failed = list(index.failed())
    if folder != out:
        remove_index(folder)
    return index, before, failed


def _place(out: Path, force: bool) -> Path:
    """The folder of the index: `out`, or one beside it where `out` is a file, which is made from it at the end.

    Raises OutputError, before any work. An existing index is continued; a file is replaced only with `force`.
    """
    from vitsmith.errors import OutputError
    from vitsmith.files.atomic import check_writable
    from vitsmith.retrieval.folder import check_folder
    from vitsmith.retrieval.single_file import FORMATS, beside, check_format, is_embeddings

    suffix = out.suffix.lower()
    check_writable(out)
    if out.is_dir() or (suffix not in FORMATS and suffix not in _NOT_FOLDERS):
        check_writable(out / "index.json")
        check_folder(out)
        return out
    check_format(out)
    folder = out.with_name(out.name + ".partial")
    for file in (out, *beside(out)):
        if not file.exists() or (folder.exists() and not force):  # with the folder, it is half of what was being made
            continue
        if not is_embeddings(file):
            raise OutputError(f"{file} exists, a file that embed did not write: choose another --out")
        if not force:
            raise OutputError(f"{file} exists: choose another --out, or replace it with --force")
    check_folder(folder)
    return folder


def _remove_earlier(out: Path) -> None:
    """Removes what embed wrote to `out` before; a file only once the new one takes its place."""
    from vitsmith.retrieval.description import is_index
    from vitsmith.retrieval.folder import check_only_index, remove_index

    folders = [folder for folder in (out, out.with_name(out.name + ".partial")) if is_index(folder)]
    for folder in folders:
        check_only_index(folder)
    for folder in folders:
        remove_index(folder)


def _finished(folder: Path, space: Space, sources: list[Any]) -> Index | None:
    """The index of a complete file whose folder an interruption left behind; None if there is none."""
    from vitsmith.errors import InputError
    from vitsmith.retrieval.build import name_of
    from vitsmith.retrieval.description import read_description
    from vitsmith.retrieval.folder import inputs_done
    from vitsmith.retrieval.index import Index

    try:
        description = read_description(folder)
        names = [name_of(source, number) for number, source in enumerate(sources)]
        done = inputs_done(folder, description, names)
    except InputError:
        return None
    whole = description.complete and done == len(names)
    return Index(folder, description) if whole and description.space == space else None


def _sources(inputs: list[str], data: DataSpec, split: str, texts_file: str, *, may_be_empty: bool) -> list[Any]:
    from vitsmith.errors import InputError

    images = bool(inputs or data.path)
    if images and texts_file:
        raise InputError("images and texts are given, and an index has one kind: leave one of them out")
    if not images and not texts_file:
        raise InputError("give images, or texts with --texts-file FILE")
    if texts_file:
        return read_texts(texts_file, may_be_empty=may_be_empty)
    sources, _ = images_of(inputs, data, split, may_be_empty=may_be_empty)
    if data.path and not isinstance(sources[0], str | os.PathLike):
        raise InputError(
            f"the images of {data.path} are not files, and an index names files: unpack them, and give the folder"
        )
    # As text: a million Paths take several times the memory.
    return [os.fspath(source) if isinstance(source, Path) else source for source in sources]


def _build(
    encoder: Encoder,
    sources: list[Any],
    writer: IndexWriter,
    retry: bool,
    changed: list[str],
    columns: list[dict[str, Any]] | None,
) -> Index:
    """The whole index; `changed` gets the names of files that were changed since they were embedded."""
    from vitsmith.errors import counted
    from vitsmith.retrieval.build import build_index
    from vitsmith.retrieval.sync.options import IndexOptions

    before = writer.description
    again = before.failures if retry else 0
    if again:
        say(f"trying {counted(again, 'image')} again that could not be read")
    with progress(unit=before.space.kind) as bar:
        task = bar.add_task("embedding", total=len(sources), completed=before.inputs - again, note="")

        def on_input(problem: str | None) -> None:
            bar.advance(task)
            if problem is not None:
                say(f"skipped: {problem}")

        options = IndexOptions(retry=retry, tell=say, on_input=on_input, on_changed=changed.extend)
        return build_index(encoder, sources, writer, options, columns)
