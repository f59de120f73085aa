"""A search that goes on while another process makes its index anew: each answer is of one index, the old or the new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from vitsmith.errors import VitsmithError
from vitsmith.retrieval.description import DESCRIPTION, checksum_now
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.answers import AnswerList
from vitsmith.retrieval.queries.nearest import AnswerSettings, Query, answer

_TRIES = 3  # times that an index is opened again for one group of queries


class LiveSearch:
    """Answers queries from the index that is in its folder now.

    `open_again` gives the index and the settings anew; it is called when index.json has become another one. It may
    raise: then queries have this error, and the next ones try again.
    """

    def __init__(
        self, index: Index, settings: AnswerSettings, open_again: Callable[[], tuple[Index, AnswerSettings]]
    ) -> None:
        self.index, self.settings = index, settings
        self._open_again = open_again
        self._state: tuple[int, ...] = ()

    def answer(self, queries: Sequence[Query]) -> list[AnswerList | VitsmithError]:
        """The answers to each query, or why there are none."""
        for left in reversed(range(_TRIES)):
            try:
                self._follow()
            except VitsmithError as error:
                return [error] * len(queries)
            try:
                return list(answer(self.index, queries, self.settings))
            except VitsmithError as error:
                if left and _state_of(self.index.folder) != self._state:  # it was replaced during the search
                    continue
                if len(queries) == 1:
                    return [error]
                break
        return [found for query in queries for found in self.answer([query])]

    def _follow(self) -> None:
        """Opens the index again where it has become another one."""
        state = _state_of(self.index.folder)
        if state == self._state:
            return
        if checksum_now(self.index.folder) != self.index.description.checksum:
            self.index, self.settings = self._open_again()
        self._state = state


def _state_of(folder: Path) -> tuple[int, ...]:
    """By what index.json is known to be another one: it is only ever replaced as a whole."""
    try:
        found = (folder / DESCRIPTION).stat()
    except OSError:
        return (0,)
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
