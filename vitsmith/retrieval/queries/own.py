"""Which entries of an index are the query itself: the same file, a file with the same content, or the same text."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from vitsmith.arrays import Array
from vitsmith.data.images.photo import FileState
from vitsmith.data.images.sources import is_encoded, read_bytes
from vitsmith.errors import ImageError, InputError
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.parts import QueryPart


class OwnEntries:
    """The entries of `index` that are one of the `parts` of a query.

    Raises InputError for pixels: an array has neither a path nor the bytes of a file to know it by.
    """

    def __init__(self, index: Index, parts: Iterable[QueryPart]) -> None:
        self._index = index
        self._texts = {part.name for part in parts if part.image is None}
        self._paths, self._digests = set[str](), set[str]()
        for part in parts:
            if part.image is not None and index.space.kind == "images":
                self._know(part.image, part.name)

    def among(self, positions: Sequence[int] | Array) -> Array:
        """Whether each of the entries at `positions` is one: bool (positions,)."""
        ids = self._index.ids(positions)
        if self._index.space.kind == "texts":
            return np.array([name in self._texts for name in ids], bool)
        if not (self._paths or self._digests):
            return np.zeros(len(ids), bool)
        copies, states = self._index.copies(positions), self._index.seen(positions)
        return np.array(
            [
                self._digest(state) in self._digests or any(self._place(one) in self._paths for one in (name, *others))
                for name, others, state in zip(ids, copies, states, strict=True)
            ],
            bool,
        )

    def _know(self, image: Any, name: str) -> None:
        if isinstance(image, Image.Image):
            image = getattr(image, "filename", "") or image
        if not is_encoded(image):
            raise InputError(
                f"{name}: pixels have neither a path nor the bytes of a file to find them by: give the file, or "
                "leave `exclude_query` out"
            )
        path = image if isinstance(image, str | os.PathLike) else getattr(image, "name", "")
        if isinstance(path, str | os.PathLike) and path:
            self._paths.add(os.path.realpath(os.path.expanduser(path)))  # noqa: PTH111 - of any text
        try:
            self._digests.add(hashlib.sha256(read_bytes(image)).hexdigest())
        except ImageError:  # it is told where the image is read
            return

    def _place(self, name: str) -> str:
        return os.path.realpath(self._index.path_of(name))

    def _digest(self, state: FileState | None) -> str:
        """The whole digest of the query with the same content; of an index the first half is known."""
        if state is None or not state.digest:
            return ""
        return next((one for one in self._digests if one.startswith(state.digest)), "")
