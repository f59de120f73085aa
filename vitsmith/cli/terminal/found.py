"""The answers of `retrieve`, as lines, JSON and a contact sheet, and remarks on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import as_remark, as_typed, print_json_line, print_line, progress, say
from vitsmith.errors import bare, counted, shown_names

if TYPE_CHECKING:
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.queries.answers import Answer, AnswerList
    from vitsmith.retrieval.queries.nearest import AnswerSettings
    from vitsmith.retrieval.queries.parts import QueryPart
    from vitsmith.retrieval.sheet import CardGroup


class FoundWriter:
    """Writes answers query by query: cosine and name, best first. `several`: each query has a heading."""

    def __init__(self, *, json: bool, several: bool) -> None:
        self._json, self._several = json, several
        self._begun = False
        self.told = ""
        """Why no query has an answer, where that was said of all."""

    def write(self, answers: AnswerList, *, recall: float | None = None) -> None:
        """Writes the answers to one query. `recall`: of an approximate search.

        That there are none stands below the heading; where there is no heading, and for JSON, it is a remark.
        """
        if self._json:
            print_json_line(_as_json(answers, recall))
        else:
            self._write_heading(answers.query or "(empty line)")
            for one in answers:
                print_line(f"{one.score:7.4f}  {one.shown}")
        if not (answers.note and answers.query):
            return
        if self._several and not self._json:
            print_line(as_remark(f"no answer: {answers.note}"))
        elif answers.note != self.told:
            say(f"no answer to {answers.query!r}: {answers.note}")

    def write_error(self, query: str, reason: str) -> None:
        """Writes that a query has no answers, and why: the reader of each answer gets one for each query."""
        if self._json:
            print_json_line({"query": query, "error": as_typed(reason)})
            return
        self._write_heading(query)
        say(f"no answer to {query!r}: {bare(query, reason)}")

    def _write_heading(self, query: str) -> None:
        if self._several:
            if self._begun:
                print_line()
            print_line(f"{query}:")
        self._begun = True


def _as_json(answers: AnswerList, recall: float | None) -> dict[str, Any]:
    fields: dict[str, Any] = {"query": answers.query, "results": [_result(one) for one in answers]}
    if answers.note:
        fields["note"] = as_typed(answers.note)
    if recall is not None and answers.query:
        fields |= {"searched": round(answers.searched, 6), "recall": round(recall, 6)}
    return fields


def _result(one: Answer) -> dict[str, Any]:
    path = None if one.path is None else str(one.path)
    return {"id": one.id, "score": round(one.score, 6), "path": path, "copies": list(one.copies)}


def tell_searched(settings: AnswerSettings, answers: Sequence[AnswerList]) -> None:
    """Says how much an approximate search looked at, what it may have left out, and how to get all answers."""
    program = settings.approximate
    if program is None or not answers:
        return
    facts, count = program.facts, len(program.index)
    share = sum(one.searched for one in answers) / len(answers)
    allowed = None if settings.allowed is None or settings.allowed.all() else int(settings.allowed.sum())
    if share == 1:
        some = "" if allowed is None else f" {allowed:,} that fulfil --where, of"
        say(f"approximate: compared all{some} {count:,} vectors")
        return
    without = "" if allowed is None else ", without --where"
    fewer = "" if settings.min_score is None else ", and more answers may reach --min-score"
    say(
        f"approximate: compared {round(share * count):,} of {count:,} vectors ({facts.probes} of {facts.centres:,} "
        f"clusters, or more to find enough); that finds {facts.recall:.1%} of the true 10 nearest of a sample{without}"
        f"{fewer}: for all answers leave out --approximate"
    )


def tell_files(index: Index, answers: Sequence[Answer]) -> None:
    """Says which answers were found by an earlier content of their file, and which have no file any more."""
    _tell_files(index, [one.position for one in answers], [one.id for one in answers if one.path is None], "found")


def tell_classified(index: Index, positions: Sequence[int], copies: Sequence[Sequence[str]]) -> None:
    """As `tell_files`, of the images at `positions` and their copies."""
    from vitsmith.retrieval.file_state import NAMELESS

    names = [name for one, more in zip(index.ids(positions), copies, strict=True) for name in (one, *more)]
    files = (name for name in names if not NAMELESS.fullmatch(name))
    gone = [name for name in files if not os.path.exists(index.path_of(name))]  # noqa: PTH110 - of any text
    _tell_files(index, positions, gone, "classified")


def _tell_files(index: Index, positions: Sequence[int], gone: Sequence[str], done: str) -> None:
    from vitsmith.retrieval.changes import file_changes
    from vitsmith.retrieval.queries.answers import shown_name

    root = index.description.root
    changes = file_changes(index, positions)
    if changes.unrecorded:
        say(
            f"{changes.unrecorded:,} of the answers were embedded by an older version, which did not record their "
            "files: whether these have changed since is not known; vitsmith embed --sync brings an index up to date"
        )
    if changed := [shown_name(root, name) for name in changes.changed]:
        say(
            f"{counted(len(changed), 'file')} of the answers changed since they were embedded ({shown_names(changed)}) "
            f"and were {done} by the image before: run  vitsmith embed  again with --sync, which embeds those alone"
        )
    left = [shown_name(root, name) for name in dict.fromkeys(gone)]
    if left and index.space.kind == "images" and root:
        say(
            f"answers whose files are not there any more, moved or deleted since: {len(left):,} ({shown_names(left)}); "
            "vitsmith embed --sync brings an index up to date"
        )


def which_told(where: str, settings: AnswerSettings) -> str:
    """Which answers were wanted: '; answers with a cosine of at least 0.5'; '' where any were."""
    told = [f"that fulfil {where}"] if where else []
    if settings.min_score is not None:
        told.append(f"with a cosine of at least {settings.min_score:g}")
    if settings.exclude_query:
        told.append("without the query itself")
    return f"; answers {', '.join(told)}" if told else ""


def write_found_sheet(
    path: Path, index: Index, groups: Sequence[tuple[AnswerList, Sequence[QueryPart]]], which: str = ""
) -> None:
    """Writes the answers to each query as one page of pictures; an image among the parts of a query comes first.

    `which` answers were wanted stands in the page's head.
    """
    from vitsmith.retrieval.sheet import write_sheet

    cards = [_group(answers, parts) for answers, parts in groups]
    with progress(unit="pictures") as bar:
        task = bar.add_task("copying", total=sum(len(one.pictures) for one in cards), note="")
        left = write_sheet(
            path,
            groups[0][0].query if len(groups) == 1 else f"{len(groups):,} queries",
            cards,
            note=f"{len(index):,} images in {index.folder}{which}",
            on_picture=lambda: bar.advance(task),
        )
    say(f"contact sheet: {path}" + (f" (without {left:,} of the answers: it has an end)" if left else ""))


def _group(answers: AnswerList, parts: Sequence[QueryPart]) -> CardGroup:
    from vitsmith.retrieval.sheet import Card, CardGroup

    asked = next((part for part in parts if part.image is not None), None)
    example = None if asked is None or asked.image is None else Card(asked.image, f"the query: {asked.name}")
    cards = [Card(one.path or Path(one.root, one.id), one.shown, one.score) for one in answers]
    note = f"No answer: {as_typed(answers.note)}" if answers.note else ""
    return CardGroup(answers.query or "(empty line)", cards, note, example)
