"""`vitsmith retrieve`: what in an index is nearest to words or to an image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import labelled, open_model
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
    sheet_option,
)
from vitsmith.cli.arguments.queries import AskedQueries, WrongLine, queries_as_they_come, read_asked
from vitsmith.cli.arguments.texts import tell_cut, tell_unknown
from vitsmith.cli.terminal.found import FoundWriter, tell_files, tell_searched, write_found_sheet
from vitsmith.cli.terminal.output import say

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.approximate import ApproximateIndex
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.queries.answers import AnswerList
    from vitsmith.retrieval.queries.nearest import Query
    from vitsmith.retrieval.queries.parts import QueryPart


def retrieve(
    index: Annotated[Path, typer.Option(help="Index folder made by  vitsmith embed.")],
    queries: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="Texts to search for; - reads texts and image paths, one a line, and answers each at once.",
        ),
    ] = None,
    model: Annotated[str, typer.Option(help="Model of the index; default: its path when the index was made.")] = "",
    images: Annotated[list[str] | None, images_option("as queries")] = None,
    data: Annotated[
        str, typer.Option("--data", help="Data set whose images are the queries; its labels are ignored.")
    ] = "",
    split: PartOption = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    combine: Annotated[
        bool, typer.Option("--combine", help="Search for all texts and images together, as one query.")
    ] = False,
    without: Annotated[
        list[str] | None, typer.Option(help="Text to subtract from each query; may be repeated.")
    ] = None,
    without_images: Annotated[
        list[str] | None, typer.Option(help="Images (files, folders, globs) to subtract; may be repeated.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Answers per query, best first.")] = 10,
    where: Annotated[
        str, typer.Option(help="Condition on columns, as \"taken >= '2024-05-01' and width > 1000\".")
    ] = "",
    min_score: Annotated[
        float | None, typer.Option(help="Least cosine of an answer, from -1 to 1; fewer answers are given.")
    ] = None,
    exclude_query: Annotated[
        bool,
        typer.Option("--exclude-query", help="Leave out entries that are the query itself, by path or content."),
    ] = False,
    sheet: Annotated[Path | None, sheet_option("the answers")] = None,
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
    from vitsmith.retrieval.queries.nearest import AnswerSettings, check_min_score
    from vitsmith.retrieval.queries.where import matching

    asked = read_asked(
        queries or [],
        images or [],
        (labelled(data, image_column, label_column, split), split),
        without=without or [],
        without_images=without_images or [],
        combine=combine,
    )
    if not (asked or build_approximate or check):
        raise InputError("give a query as text, or images with --images FILE or --data DATA")
    check_min_score(min_score)
    opened = open_index(index, unfinished=unfinished, verify=verify)
    if asked:
        check_searchable(index, opened.space)
    if sheet is not None:
        _check_sheet(sheet, opened, asked)
    if check:
        opened.check_hashes()
        say(f"{index}: {len(opened):,} vectors and their ids are as they were written")
    allowed = matching(opened, where) if where else None
    program = _approximate(opened, build_approximate) if approximate or build_approximate else None
    if not asked:
        return
    _tell_none(opened, None if allowed is None else int(allowed.sum()))
    encoder = _open_encoder(opened, model, engine, image_size=image_size, read_as=read_as, vocabulary=vocabulary)
    settings = AnswerSettings(
        count=top,
        min_score=min_score,
        allowed=allowed,
        exclude_query=exclude_query,
        approximate=program if approximate else None,
    )
    search = _Search(opened, encoder, settings, asked, json=json)
    search.run(keep=sheet is not None)
    if sheet is not None:
        write_found_sheet(sheet, opened, search.kept)
    if search.failures:
        raise InputError(f"{search.failures:,} of {search.count:,} queries could not be read, and have no answer")


class _Search:
    """Answers the queries of a command line, those that are known and then line by line."""

    def __init__(self, index: Index, encoder: Encoder, settings: Any, asked: AskedQueries, *, json: bool) -> None:
        self._index, self._encoder, self._settings, self._asked = index, encoder, settings, asked
        several = asked.lines or (len(asked.parts) > 1 and not asked.combine)
        recall = settings.approximate.facts.recall if settings.approximate is not None else None
        self._writer = FoundWriter(json=json, several=several, recall=recall, min_score=settings.min_score)
        self.kept: list[tuple[AnswerList, Sequence[QueryPart]]] = []
        self.failures = self.count = 0

    def run(self, *, keep: bool) -> None:
        """Answers all; with `keep` the answers are kept for a sheet."""
        self._less = self._embedded(self._asked.without)
        told = self._settings.approximate is None
        for group in self._groups():
            queries = [one for one in group if not isinstance(one, WrongLine)]
            found = self._answer(queries)
            if not told and found:
                tell_searched(self._settings.approximate, found)
                told = True
            answers = iter(zip(found, queries, strict=True))
            for one in group:
                self.count += 1
                if isinstance(one, WrongLine):
                    self.failures += 1
                    self._writer.write_error(one.name, one.reason)
                    continue
                answer, query = next(answers)
                self._writer.write(answer)
                if keep:
                    self.kept.append((answer, query.parts))
            tell_files(self._index, [one for each in found for one in each])

    def _answer(self, queries: Sequence[Query]) -> list[AnswerList]:
        from vitsmith.retrieval.queries.nearest import answer

        return answer(self._index, queries, self._settings)

    def _groups(self) -> Iterator[list[Query | WrongLine]]:
        """Queries that are answered together."""
        parts = self._asked.parts
        if parts:
            vectors = self._embedded(parts)
            if self._asked.combine:
                yield [self._query(parts, vectors)]
            else:
                yield [self._query([part], vectors[at : at + 1]) for at, part in enumerate(parts)]
        if self._asked.lines:
            for lines in queries_as_they_come():
                yield self._of_lines(lines)

    def _of_lines(self, lines: Sequence[QueryPart | WrongLine]) -> list[Query | WrongLine]:
        from vitsmith.errors import VitsmithError
        from vitsmith.retrieval.queries.parts import embed_parts

        parts = [line for line in lines if not isinstance(line, WrongLine)]
        vectors = embed_parts(self._encoder, parts)
        self._tell_words([part for part, row in zip(parts, vectors, strict=True) if not isinstance(row, VitsmithError)])
        rows = iter(zip(parts, vectors, strict=True))
        group: list[Query | WrongLine] = []
        for line in lines:
            if isinstance(line, WrongLine):
                group.append(line)
                continue
            part, row = next(rows)
            try:
                if isinstance(row, VitsmithError):
                    raise row
                group.append(self._query([part], row[None]))
            except VitsmithError as error:
                group.append(WrongLine(part.name, str(error)))
        return group

    def _query(self, parts: Sequence[QueryPart], vectors: Any) -> Query:
        from vitsmith.retrieval.queries.nearest import Query
        from vitsmith.retrieval.queries.parts import combined

        less = self._asked.without
        name = " + ".join(part.name for part in parts) + "".join(f" - {part.name}" for part in less)
        if len(parts) == 1 and not less:
            return Query(name, vectors[0], tuple(parts))
        names = [part.name for part in (*parts, *less)]
        return Query(name, combined(vectors, self._less, names=names), tuple(parts))

    def _embedded(self, parts: Sequence[QueryPart]) -> Any:
        from vitsmith.retrieval.queries.parts import whole_parts

        texts = [part.name for part in parts if part.image is None]
        if texts:
            tell_cut(self._encoder, texts)
        vectors = whole_parts(self._encoder, parts)  # refuses what has no known word, which need not be told twice
        if texts:
            tell_unknown(self._encoder, texts)
        return vectors

    def _tell_words(self, parts: Sequence[QueryPart]) -> None:
        if texts := [part.name for part in parts if part.image is None]:
            tell_cut(self._encoder, texts)
            tell_unknown(self._encoder, texts)


def _check_sheet(sheet: Path, index: Index, asked: AskedQueries) -> None:
    from vitsmith.errors import InputError
    from vitsmith.retrieval.sheet import check_sheet

    if not asked:
        raise InputError("--sheet shows the answers to queries: give a query too")
    check_sheet(sheet)
    if index.space.kind != "images":
        raise InputError(f"--sheet shows pictures, and {index.folder} is an index of texts: leave --sheet out")


def _tell_none(index: Index, allowed: int | None) -> None:
    """Says that nothing can be found, where that is so."""
    if not len(index):
        say(f"{index.folder} holds no vectors, so nothing is found")
    elif allowed == 0:
        say(f"none of the {len(index):,} entries of {index.folder} fulfils --where")


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
    index.check_encoder(encoder, model or index.space.model)
    return encoder


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
