"""`vitsmith retrieve`: what in an index is nearest to words or to an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from vitsmith.cli.search.queries import AskedQueries, read_asked
from vitsmith.cli.terminal.found import which_told, write_found_sheet
from vitsmith.cli.terminal.output import say

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.approximate import ApproximateIndex
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.queries.nearest import AnswerSettings


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
    from vitsmith.cli.search.answers import QueryAnswers
    from vitsmith.errors import InputError
    from vitsmith.retrieval.description import check_searchable
    from vitsmith.retrieval.queries.live import LiveSearch
    from vitsmith.retrieval.queries.nearest import AnswerSettings, check_min_score

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
    settings = AnswerSettings(count=top, min_score=min_score, exclude_query=exclude_query)
    opening = _Opening(index, where, approximate=approximate, unfinished=unfinished, verify=verify)
    opened = opening.open()
    if asked:
        check_searchable(index, opened.space)
    if sheet is not None:
        _check_sheet(sheet, opened, asked)
    if check:
        opened.check_hashes()
        say(f"{index}: {len(opened):,} vectors and their ids are as they were written")
    settings = opening.fitted(opened, settings, anew=build_approximate)
    if not asked:
        return
    encoder = _open_encoder(opened, model, engine, image_size=image_size, read_as=read_as, vocabulary=vocabulary)
    live = LiveSearch(opened, settings, lambda: opening.again(encoder, settings))
    answers = QueryAnswers(live, encoder, asked, json=json)
    answers.run(keep=sheet is not None)
    if sheet is not None:
        write_found_sheet(sheet, live.index, answers.kept, which_told(where, settings))
    if answers.failures:
        raise InputError(f"{answers.failures:,} of {answers.count:,} queries could not be answered: each says why")


@dataclass(frozen=True)
class _Opening:
    """How the index of a command line is opened, at first, and again where another process replaced it."""

    folder: Path
    where: str
    approximate: bool
    unfinished: bool
    verify: bool

    def open(self) -> Index:
        from vitsmith.retrieval.index import open_index

        return open_index(self.folder, unfinished=self.unfinished, verify=self.verify)

    def fitted(self, index: Index, settings: AnswerSettings, *, anew: bool = False) -> AnswerSettings:
        """The settings with what depends on the index; `anew` builds the approximate one."""
        from vitsmith.retrieval.queries.where import matching

        allowed = matching(index, self.where) if self.where else None
        program = _approximate(index, anew) if self.approximate or anew else None
        return replace(settings, allowed=allowed, approximate=program if self.approximate else None)

    def again(self, encoder: Encoder, settings: AnswerSettings) -> tuple[Index, AnswerSettings]:
        """Raises InputError where the index is not complete, or not of this model any more."""
        index = self.open()
        index.check_encoder(encoder)
        fitted = self.fitted(index, settings)
        say(f"{self.folder} was changed by another process: opened again, with {len(index):,} entries")
        return index, fitted


def _check_sheet(sheet: Path, index: Index, asked: AskedQueries) -> None:
    from vitsmith.errors import InputError
    from vitsmith.retrieval.sheet import check_sheet

    if not asked:
        raise InputError("--sheet shows the answers to queries: give a query too")
    check_sheet(sheet)
    if index.space.kind != "images":
        raise InputError(f"--sheet shows pictures, and {index.folder} is an index of texts: leave --sheet out")


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
