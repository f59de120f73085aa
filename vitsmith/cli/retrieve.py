"""`vitsmith retrieve`: what in an index is nearest to words or to an image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import images_of, labelled, open_model
from vitsmith.cli.arguments.options import (
    EngineOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonLinesOption,
    LabelColumnOption,
    PartOption,
    ReadAsOption,
    VocabularyOption,
    images_option,
)
from vitsmith.cli.arguments.texts import read_texts, tell_cut, tell_unknown
from vitsmith.cli.terminal.output import print_json_line, print_line, say
from vitsmith.escapes import shell_quoted

if TYPE_CHECKING:
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.approximate import ApproximateIndex
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.search import Found


def retrieve(
    index: Annotated[Path, typer.Option(help="Index folder made by  vitsmith embed.")],
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY", help="Texts to search for; - reads one a line from standard input."),
    ] = None,
    model: Annotated[str, typer.Option(help="Model of the index; default: its path when the index was made.")] = "",
    images: Annotated[list[str] | None, images_option("as queries")] = None,
    data: Annotated[
        str, typer.Option("--data", help="Data set whose images are the queries; its labels are ignored.")
    ] = "",
    split: PartOption = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    top: Annotated[int, typer.Option(min=1, help="Answers per query, best first.")] = 10,
    approximate: Annotated[
        bool,
        typer.Option("--approximate", help="Faster in large indexes, but may miss some answers; built if missing."),
    ] = False,
    build_approximate: Annotated[
        bool, typer.Option("--build-approximate", help="Build the approximate index again.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Check the whole index by its SHA-256 first; without a query, only that."),
    ] = False,
    verify: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Check vectors by their SHA-256 before searching.")
    ] = True,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Search an index that is not complete.")] = False,
    engine: EngineOption = "auto",
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    vocabulary: VocabularyOption = None,
    json: JsonLinesOption = False,
) -> None:
    """Search an index by text or image: the nearest entries, best first, with their cosines."""
    from vitsmith.errors import InputError
    from vitsmith.retrieval.description import check_searchable
    from vitsmith.retrieval.index import open_index

    words = _words(queries or [])
    sources, called = _query_images(images or [], labelled(data, image_column, label_column, split), split)
    if not (words or sources or build_approximate or check):
        raise InputError("give a query as text, or images with --images FILE or --data DATA")
    opened = open_index(index, unfinished=unfinished, verify=verify)
    if words or sources:
        check_searchable(index, opened.space)
    if check:
        opened.check_hashes()
        say(f"{index}: {len(opened):,} vectors and their ids are as they were written")
    program = _approximate(opened, build_approximate) if approximate or build_approximate else None
    if not (words or sources):
        return
    encoder = _open_encoder(opened, model, engine, image_size=image_size, read_as=read_as, vocabulary=vocabulary)
    vectors = _vectors(encoder, words, sources)
    if program is not None and approximate:
        found = program.search(vectors, top)
    else:
        from vitsmith.retrieval.search import search

        found = search(opened, vectors, top)
    _print(opened, [*words, *called], found, json)
    _tell_changed(opened, found)


def _words(queries: list[str]) -> list[str]:
    from vitsmith.errors import InputError

    words = [line for query in queries for line in (read_texts("-") if query == "-" else [query.strip()])]
    if not all(words):
        raise InputError("a query is empty: give a text to search for")
    for word in words:
        if _is_path(word):
            raise InputError(
                f"{word!r} is a path, not words: to search by an image, write  --images {shell_quoted(word)}"
            )
    return words


def _query_images(images: list[str], data: DataSpec, split: str) -> tuple[Sequence[ImageSource], Sequence[str]]:
    """The images to search by, and their names."""
    from vitsmith.data.images.sources import name_source

    if not (images or data.path):
        return (), ()
    sources, names = images_of(images, data, split)
    return sources, [name_source(source) for source in sources] if names is None else names


def _is_path(query: str) -> bool:
    """'cat.jpg', './cat', 'https://...' and what is there; not 'black/white' or 'a dog in 4/4'."""
    from vitsmith.data.images.read import IMAGE_SUFFIXES

    if query.lower().endswith(IMAGE_SUFFIXES) or re.match(r"/|~/|\.\.?/|[a-z]+://", query):
        return True
    try:
        return "/" in query and Path(query).exists()
    except (OSError, ValueError):  # too long for a name
        return False


def _open_encoder(index: Index, model: str, engine: str, **opening: Any) -> Encoder:
    """The model of the index, from its own path or from `model`; `opening` are options of `open_model`.

    Raises InputError when it is another model.
    """
    from vitsmith.encode import Encoder
    from vitsmith.errors import InputError

    try:
        bundle = open_model(model or index.space.model, headless=True, **opening)
    except InputError as error:
        if model:
            raise
        raise InputError(f"the model of {index.folder}: {error} (or give its place with --model)") from error
    encoder = Encoder(bundle, engine, num_images=1, what=index.space.what)
    index.check_model(encoder.bundle, model or index.space.model)
    return encoder


def _vectors(encoder: Encoder, words: list[str], sources: Sequence[ImageSource]) -> Any:
    import numpy as np

    vectors = []
    if words:
        tell_cut(encoder, words)
        vectors.append(encoder.texts(words))  # refuses what has no known word, which need not be told twice
        tell_unknown(encoder, words)
    if sources:
        vectors.append(encoder.images(sources))
    return np.concatenate(vectors)


def _approximate(index: Index, anew: bool) -> ApproximateIndex:
    from vitsmith.retrieval.approximate import build_approximate, open_approximate

    opened = None if anew else open_approximate(index)
    if opened is None:
        say("building the approximate index" if anew else "building the approximate index: there is none that fits")
        opened = build_approximate(index, on_step=lambda step: say(f"  {step}"))
        facts = opened.facts
        say(
            f"approximate search reads {facts.probes} of {facts.centres:,} clusters and finds {facts.recall:.1%} of "
            "the true 10 nearest neighbours, measured on a sample of the index's own vectors"
        )
    return opened


def _tell_changed(index: Index, found: Found) -> None:
    """Reports answers whose files have changed since: they were found by their earlier contents."""
    from vitsmith.retrieval.changes import changed_files

    answers = found.positions[found.positions >= 0].tolist()
    if changed := changed_files(index, answers):
        shown = ", ".join(map(repr, changed[:3])) + (", ..." if len(changed) > 3 else "")
        say(
            f"{len(changed):,} of the answers changed since they were embedded ({shown}) and were found by the image "
            f"before: to embed all anew, delete {index.folder} and run  vitsmith embed  again"
        )


def _print(index: Index, queries: list[str], found: Found, json: bool) -> None:
    for number, query in enumerate(queries):
        there = found.positions[number] >= 0
        positions = found.positions[number][there]
        # Vectors kept in float16 may be a little longer than 1, and with them the products that rank them.
        cosines = found.scores[number][there].clip(-1, 1).tolist()
        answers = list(zip(cosines, index.ids(positions), strict=True))
        if json:
            results = [{"id": name, "score": round(score, 6)} for score, name in answers]
            print_json_line({"query": query, "results": results})
            continue
        if len(queries) > 1:
            print_line(f"{query}:")
        for score, name in answers:
            print_line(f"{score:7.4f}  {name}")
        if len(queries) > 1 and number < len(queries) - 1:
            print_line()
