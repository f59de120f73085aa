"""The queries of a command line: texts, images, what is subtracted from them, and lines of standard input."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vitsmith.cli.arguments.images import sources_of
from vitsmith.cli.arguments.inputs import images_of
from vitsmith.cli.terminal.streams import lines_as_they_come

if TYPE_CHECKING:
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.retrieval.queries.parts import QueryPart


@dataclass(frozen=True)
class AskedQueries:
    """What a command line asks for."""

    parts: tuple[QueryPart, ...]
    """Texts and images: a query each, or with `combine` the parts of one."""
    without: tuple[QueryPart, ...] = ()
    """What is subtracted from each query."""
    combine: bool = False
    lines: bool = False
    """Whether further queries are lines of standard input."""

    def __bool__(self) -> bool:
        return bool(self.parts or self.lines)


def read_asked(
    queries: Sequence[str],
    images: Sequence[str],
    data: tuple[DataSpec, str],
    *,
    without: Sequence[str],
    without_images: Sequence[str],
    combine: bool,
) -> AskedQueries:
    """The queries of a command line; `data` is a data set and its split. Raises InputError."""
    from vitsmith.errors import InputError
    from vitsmith.retrieval.queries.parts import QueryPart

    lines = "-" in queries
    if lines and "-" in (*images, *without_images):
        raise InputError("standard input is read once: give - as a query or as an image")
    if lines and combine:
        raise InputError("--combine makes one query of all its parts, and - reads queries one by one: leave one out")
    texts = [QueryPart(_text(query, "--images")) for query in queries if query != "-"]
    pictures: list[QueryPart] = []
    if images or data[0].path:
        sources, names = images_of(list(images), *data)
        pictures = _named(sources, names)
    less = [QueryPart(_text(text, "--without-images")) for text in without]
    if without_images:
        less += _named(sources_of(list(without_images)), None)
    asked = AskedQueries((*texts, *pictures), tuple(less), combine, lines)
    if less and not asked:
        raise InputError("--without and --without-images subtract from a query: give one too")
    return asked


def queries_as_they_come() -> Iterator[list[QueryPart | WrongLine]]:
    """The lines of standard input, as many as are there at once. A path is an image, any other line a text.

    A line without anything gives a part without a name, so that lines and answers stay in step. Raises InputError when
    there is no other.
    """
    from vitsmith.errors import InputError

    number, some = 0, False
    for lines in lines_as_they_come("queries"):
        parts = [_of_line(line, number + at) for at, line in enumerate(lines, 1)]
        number += len(lines)
        some = some or any(part.name for part in parts)
        yield parts
    if not some:
        raise InputError("standard input holds no queries: write one a line")


def _of_line(line: bytes, number: int) -> QueryPart | WrongLine:
    from vitsmith.errors import InputError
    from vitsmith.retrieval.queries.parts import QueryPart, part_of

    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
    except UnicodeDecodeError:
        text = os.fsdecode(line).strip()
        if not os.path.lexists(text):
            return WrongLine(text, f"line {number} is not UTF-8 text: save it as UTF-8")
    if "\0" in text:
        return WrongLine(text, f"line {number} is not text, or is UTF-16: save it as UTF-8")
    try:
        return part_of(text) if text else QueryPart("")
    except InputError as error:  # a folder
        return WrongLine(text, str(error))


@dataclass(frozen=True)
class WrongLine:
    """A line that is no query, and why."""

    name: str
    reason: str


def _named(sources: Sequence[object], names: Sequence[str] | None) -> list[QueryPart]:
    from vitsmith.data.images.sources import name_source
    from vitsmith.retrieval.queries.parts import QueryPart

    shown = [name_source(source) for source in sources] if names is None else names
    return [QueryPart(name, source) for name, source in zip(shown, sources, strict=True)]  # type: ignore[arg-type]


def _text(query: str, option: str) -> str:
    from vitsmith.errors import InputError
    from vitsmith.retrieval.queries.parts import is_path, path_told

    text = query.strip()
    if not text:
        raise InputError("a query is empty: give a text to search for")
    if is_path(text):
        raise InputError(path_told(text, option))
    return text
