"""The queries of `vitsmith retrieve` and their answers, in order: those of the command line, then line by line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vitsmith.cli.arguments.texts import tell_cut, tell_unknown
from vitsmith.cli.search.queries import AskedQueries, WrongLine, queries_as_they_come
from vitsmith.cli.terminal.found import FoundWriter, tell_files, tell_searched
from vitsmith.cli.terminal.output import say

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.queries.answers import AnswerList
    from vitsmith.retrieval.queries.live import LiveSearch
    from vitsmith.retrieval.queries.nearest import Query
    from vitsmith.retrieval.queries.parts import QueryPart

    Answered = tuple[AnswerList | WrongLine, Sequence[QueryPart]]


class QueryAnswers:
    """Answers the queries of a command line, and writes the answers."""

    def __init__(self, live: LiveSearch, encoder: Encoder, asked: AskedQueries, *, json: bool) -> None:
        self._live, self._encoder, self._asked = live, encoder, asked
        self._writer = FoundWriter(json=json, several=asked.lines or (len(asked.parts) > 1 and not asked.combine))
        self._less: Any = None
        self._told_nothing: Index | None = None
        self._told_searched = False
        self.kept: list[tuple[AnswerList, Sequence[QueryPart]]] = []
        """For a sheet: the answers, and the parts of their queries."""
        self.failures = self.count = 0

    def run(self, *, keep: bool) -> None:
        """Answers all; with `keep` the answers are kept.

        Raises InputError, but for a line, or one of several queries, that has no answer: the others have theirs.
        """
        from vitsmith.errors import InputError

        self._less = self._embedded(self._asked.without)
        self._tell_nothing()
        for group in self._groups():
            answered = list(self._answered(group))
            self._tell_nothing()
            self._tell_searched([one for one, _ in answered if not isinstance(one, WrongLine) and one.query])
            for one, parts in answered:
                self._write(one)
                if keep and (isinstance(one, WrongLine) or one.query):
                    self.kept.append((_on_sheet(one), parts))
            found = [answer for one, _ in answered if not isinstance(one, WrongLine) for answer in one]
            with suppress(InputError):  # it has just been replaced: the next line opens it again
                tell_files(self._live.index, found)

    def _write(self, one: AnswerList | WrongLine) -> None:
        if isinstance(one, WrongLine):
            self.count, self.failures = self.count + 1, self.failures + 1
            self._writer.write_error(one.name, one.reason)
            return
        self.count += bool(one.query)
        program = self._live.settings.approximate
        self._writer.write(one, recall=None if program is None else program.facts.recall)

    def _answered(self, group: Sequence[Query | AnswerList | WrongLine]) -> Iterator[Answered]:
        from vitsmith.errors import VitsmithError
        from vitsmith.retrieval.queries.nearest import Query

        answers = self._live.answer([one for one in group if isinstance(one, Query)])
        reasons = {str(one) if isinstance(one, VitsmithError) else "" for one in answers}
        found = iter(answers)
        for one in group:
            if not isinstance(one, Query):
                yield one, ()
                continue
            answer = next(found)
            if not isinstance(answer, VitsmithError):
                yield answer, one.parts
            elif self._asked.lines or len(reasons) > 1:
                yield WrongLine(one.name, str(answer)), one.parts
            else:
                raise answer  # the same for all, as of a damaged index

    def _groups(self) -> Iterator[Sequence[Query | AnswerList | WrongLine]]:
        """Queries that are answered together."""
        parts = self._asked.parts
        if parts:
            if self._asked.combine or len(parts) == 1:
                yield [self._query(parts, self._embedded(parts))]
            else:
                yield self._of_lines(parts)
        if self._asked.lines:
            for lines in queries_as_they_come():
                yield self._of_lines(lines)

    def _of_lines(self, lines: Sequence[QueryPart | WrongLine]) -> list[Query | AnswerList | WrongLine]:
        from vitsmith.errors import VitsmithError
        from vitsmith.retrieval.queries.answers import AnswerList
        from vitsmith.retrieval.queries.parts import embed_parts

        parts = [line for line in lines if not isinstance(line, WrongLine) and line.name]
        vectors = embed_parts(self._encoder, parts)
        self._tell_words([part for part, row in zip(parts, vectors, strict=True) if not isinstance(row, VitsmithError)])
        rows = iter(vectors)
        group: list[Query | AnswerList | WrongLine] = []
        for line in lines:
            if isinstance(line, WrongLine):
                group.append(line)
            elif not line.name:
                group.append(AnswerList("", (), note="the line is empty"))
            else:
                group.append(self._of_line(line, next(rows)))
        return group

    def _of_line(self, part: QueryPart, row: Any) -> Query | WrongLine:
        from vitsmith.errors import VitsmithError

        try:
            if isinstance(row, VitsmithError):
                raise row
            return self._query([part], row[None])
        except VitsmithError as error:
            return WrongLine(part.name, str(error))

    def _query(self, parts: Sequence[QueryPart], vectors: Any) -> Query:
        from vitsmith.retrieval.queries.nearest import query_of

        names, without = [part.name for part in parts], [part.name for part in self._asked.without]
        return query_of(names, vectors, without, self._less, parts=parts)

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

    def _tell_nothing(self) -> None:
        """Says once of each index, not of each query, that nothing can be found."""
        from vitsmith.retrieval.queries.nearest import why_nothing

        if self._live.index is not self._told_nothing:
            self._told_nothing = self._live.index
            self._writer.told = why_nothing(self._live.index, self._live.settings.allowed)
            if self._writer.told:
                say(self._writer.told)

    def _tell_searched(self, answers: Sequence[AnswerList]) -> None:
        if answers and self._live.settings.approximate is not None and not self._told_searched:
            tell_searched(self._live.settings, answers)
            self._told_searched = True


def _on_sheet(one: AnswerList | WrongLine) -> AnswerList:
    from vitsmith.errors import bare
    from vitsmith.retrieval.queries.answers import AnswerList

    if isinstance(one, WrongLine):
        return AnswerList(one.name, (), note=bare(one.name, one.reason))
    return one
