"""The parts of queries: texts and images, and their unit vectors. P parts, E embedding width."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vitsmith.arrays import Array
from vitsmith.data.images.files import UNREAD_SUFFIXES
from vitsmith.data.images.read import IMAGE_SUFFIXES
from vitsmith.data.images.sources import ImageSource, name_source
from vitsmith.encode import Encoder
from vitsmith.errors import InputError, VitsmithError, bare
from vitsmith.escapes import shell_quoted
from vitsmith.stream import Failure

SHORTEST = 0.01
"""The least length of a sum of unit vectors: what is shorter comes from rounding, of low precisions too."""
_OTHER_SUFFIXES = (*UNREAD_SUFFIXES, ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
"""Of pictures and videos that are not read: reading one says so, and as a word it would find anything."""


@dataclass(frozen=True)
class QueryPart:
    """A text, or an image: then `image` is given, and `name` is only its name."""

    name: str
    image: ImageSource | None = None


def part_of(value: Any) -> QueryPart:
    """A text that is not a path as a text, everything else as an image. Raises InputError for a folder."""
    if isinstance(value, str):
        if not is_path(value):
            return QueryPart(value)
        if os.path.isdir(value):  # noqa: PTH112 - of any text
            raise InputError(f"{value!r} is a folder, not words: give one image of it{_as_words(value)}")
    return QueryPart(name_source(value), value)


def is_path(text: str) -> bool:
    """'cat.jpg', 'clip.mp4', './cat', 'https://...' and what is there; not 'black/white' or 'what is an .mp4'."""
    lower = text.lower()
    if lower.endswith(IMAGE_SUFFIXES) or re.match(r"/|~/|\.\.?/|[a-z]+://", text):
        return True
    if lower.endswith(_OTHER_SUFFIXES) and not re.search(r"\s", text):
        return True
    return os.path.lexists(text)


def path_told(path: str, option: str) -> str:
    """Why a path is no text to search for, and the `option` that takes it."""
    return (
        f"{path!r} is a path, not words: to search by an image, write  {option} {shell_quoted(path)}{_as_words(path)}"
    )


def _as_words(path: str) -> str:
    """What to write for the word, where a path may be one as well."""
    return "" if re.search(r"[/.]", path) else f"; for the word itself write a longer text, as 'a photo of {path}'"


def embed_parts(encoder: Encoder, parts: Sequence[QueryPart]) -> list[Array | VitsmithError]:
    """The unit vector (E,) of each part, or the error for one that cannot be read, without loss of the others."""
    found: list[Array | VitsmithError] = [InputError("not embedded")] * len(parts)
    texts = [at for at, part in enumerate(parts) if part.image is None]
    images = [at for at, part in enumerate(parts) if part.image is not None]
    for at, answer in zip(texts, _embed_texts(encoder, [parts[at].name for at in texts]), strict=True):
        found[at] = answer
    answers = encoder.stream([_of_any_text(parts[at].image) for at in images]) if images else ()
    for at, one in zip(images, answers, strict=True):
        found[at] = InputError(one.named(parts[at].name).reason) if isinstance(one, Failure) else one[1]
    return found


def whole_parts(encoder: Encoder, parts: Sequence[QueryPart]) -> Array:
    """float32 (P, E). Raises the error of the first part that cannot be read."""
    rows = []
    for row in embed_parts(encoder, parts):
        if isinstance(row, VitsmithError):
            raise row
        rows.append(row)
    return np.stack(rows) if rows else np.zeros((0, encoder.width), np.float32)


def combined(vectors: Array, without: Array | None = None, *, names: Iterable[str] = ()) -> Array:
    """float32 (E,): the sum of the unit vectors (P, E), minus those of `without`, divided by its length.

    Raises InputError when hardly anything is left: that has no direction. `names` are those of the parts.
    """
    total = np.asarray(vectors, np.float64).sum(axis=0)
    if without is not None:
        total = total - np.asarray(without, np.float64).sum(axis=0)
    length = float(np.linalg.norm(total))
    if not length >= SHORTEST:
        told = ", ".join(map(repr, names)) or "the parts"
        raise InputError(f"{told} cancel each other out, so the query has no direction: leave one of them out")
    unit: Array = (total / length).astype(np.float32)
    return unit


def _embed_texts(encoder: Encoder, texts: Sequence[str]) -> Sequence[Array | VitsmithError]:
    try:
        return list(encoder.texts(texts)) if texts else []
    except VitsmithError as error:
        if len(texts) == 1:
            return [InputError(bare("text 1", str(error)))]
    return [row for text in texts for row in _embed_texts(encoder, [text])]


def _of_any_text(image: Any) -> Any:
    """A path as text: names of bytes are paths too for the system, but here bytes are those of an image."""
    return os.fspath(image) if isinstance(image, os.PathLike) else image
