"""Embed inputs into the rows of an index: the vector of each, or why there is none, and what its file says."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FACTS, FileState, Photo
from vitsmith.data.images.sources import ImageSource
from vitsmith.encode import TEXT_BATCH, Encoder
from vitsmith.errors import InputError, shown
from vitsmith.retrieval.part_files import check_column_name
from vitsmith.retrieval.writer import IndexWriter
from vitsmith.stream import Failure

Progress = Callable[[str | None], None]
"""Called for each input that is done, with its mistake, if any."""


class EmbeddedInput(NamedTuple):
    """One input, embedded."""

    answer: tuple[str, Array] | Failure
    """Its name and vector, or why there is none."""
    state: FileState | None
    facts: Mapping[str, Any]


def add_rows(
    encoder: Encoder,
    sources: Sequence[ImageSource],
    names: Sequence[str],
    writer: IndexWriter,
    *,
    columns: Sequence[Mapping[str, Any]] | None = None,
    on_input: Progress | None = None,
) -> Iterator[EmbeddedInput]:
    """Embed `sources`, images or texts as the index has them, add each to the index as `names` say, and yield it.

    `columns`: what else is known of each source. Images that cannot be read, and texts without a word that the
    vocabulary knows, are recorded as failures.
    """
    if not names:
        return
    texts = writer.description.space.kind == "texts"
    photos: deque[Photo | None] = deque()

    def images() -> Iterator[ImageSource]:
        for one in sources:
            photos.append(Photo(os.fspath(one)) if isinstance(one, str | os.PathLike) else None)
            yield photos[-1] or one

    answers = _embed_texts(encoder, names) if texts else encoder.stream(images())
    for at, (name, answer) in enumerate(zip(names, answers, strict=True)):
        photo = photos.popleft() if photos else None
        facts = (photo.facts if photo else {}) | (dict(columns[at]) if columns is not None else {})
        one = EmbeddedInput(_named(answer, name), photo.state if photo else None, facts)
        writer.add(*one)
        if on_input is not None:
            on_input(one.answer.reason if isinstance(one.answer, Failure) else None)
        yield one


def _named(answer: tuple[str, Array] | Failure, name: str) -> tuple[str, Array] | Failure:
    """The answer under the name `name`: the stream numbers only its own inputs, which may be the end of a list."""
    if isinstance(answer, Failure):
        return answer if answer.source == name else answer.named(name)
    return name, answer[1]


def _embed_texts(encoder: Encoder, texts: Sequence[str]) -> Iterator[tuple[str, Array] | Failure]:
    """Embed texts as `Encoder.stream` does images: texts without a word that the vocabulary knows are failures."""
    tokenizer = encoder.bundle.tokenizer
    for at in range(0, len(texts), TEXT_BATCH):
        some = texts[at : at + TEXT_BATCH]
        read = tokenizer.read(some)
        vectors = iter(encoder.tokens(read.tokens[read.known]))
        for text, known in zip(some, read.known, strict=True):
            yield (text, next(vectors)) if known else Failure(text, tokenizer.why_unread(text))


def rows_of(columns: Mapping[str, Sequence[Any]] | None, count: int) -> list[dict[str, Any]] | None:
    """Columns of `count` inputs as what is known of each: the first value is that of the first input, and so on.

    A column may be an array, or a Series of pandas, whose labels do not count. Raises InputError for other lengths,
    names and values.
    """
    if columns is None:
        return None
    for name in columns:
        check_column_name(name)
    listed = {name: _listed(values) for name, values in columns.items()}
    for name, values in listed.items():
        if name in FACTS:
            raise InputError(
                f"the column {name!r} has the name of one that images have themselves: rename it, or leave it out"
            )
        if len(values) != count:
            raise InputError(f"the column {name!r} has {len(values):,} values for {count:,} inputs: give one for each")
        wrong = next((value for value in values if not isinstance(value, str | int | float | None)), None)
        if wrong is not None:
            raise InputError(f"the column {name!r} has {shown(wrong)}: give texts, numbers and None")
    return [{name: finite_or_none(values[at]) for name, values in listed.items()} for at in range(count)]


def _listed(values: Any) -> list[Any]:
    """The values of a column in their order, those of arrays and of pandas as Python's."""
    listed = values.tolist() if hasattr(values, "tolist") else list(values)
    if not isinstance(listed, list):
        raise InputError(f"a column has a value for each input, and {shown(values)} is one value")
    return [_plain(value) for value in listed]


def _plain(value: Any) -> Any:
    if type(value).__name__ in ("NAType", "NaTType"):  # as pandas has it for what is missing
        return None
    return value.item() if isinstance(value, np.generic) else value


def finite_or_none(value: Any) -> Any:
    """A value of a column; NaN, as tables have it for what is missing, is None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check_texts(texts: Sequence[Any]) -> None:
    """Raise InputError for what is no text."""
    wrong = next((number for number, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        raise InputError(f"text {wrong} is {type(texts[wrong]).__name__}, not a string: give the texts themselves")


def nothing_read(first: str, count: int, *, texts: bool) -> InputError:
    """The error when none of `count` inputs has a vector; `first` is the mistake of one."""
    if count == 1:
        told = "the text has no word that the model knows" if texts else "the image could not be read"
    else:
        what = "texts has a word that the model knows" if texts else "images could be read"
        told = f"none of the {count:,} {what}"
    return InputError(f"{told}, so there is no index ({first})")
