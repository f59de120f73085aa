"""An index that answers words and images: what `vitsmith.open_index` gives. Q queries, N entries, E embedding width."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitsmith.arguments import flag, named_arguments
from vitsmith.arrays import Array
from vitsmith.errors import InputError
from vitsmith.retrieval import index as plain
from vitsmith.retrieval.description import Description, check_searchable
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.answers import AnswerList, pandas
from vitsmith.retrieval.queries.where import matching
from vitsmith.retrieval.search import check_queries

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.predict import Prediction
    from vitsmith.retrieval.approximate import ApproximateIndex
    from vitsmith.retrieval.queries.nearest import Query
    from vitsmith.zeroshot.classifier import ZeroShotClassifier


class SearchableIndex(Index):
    """An index and the model that reads its queries, which is opened for the first of them and kept.

    `search` and `to_pandas` may be called from several threads: they take turns where a model or search uses all cores.
    """

    def __init__(self, folder: Path, description: Description, *, verify: bool = True) -> None:
        super().__init__(folder, description, verify=verify)
        self._encoder: Encoder | None = None
        self._encoding = threading.RLock()
        self._program: ApproximateIndex | None = None

    @property
    def encoder(self) -> Encoder:
        """The model of the index, from its own path. Raises InputError when it is not there, or is another one now.

        Where it has moved, set `index.encoder = vitsmith.Encoder(PATH)` first, for class tokens with `what="class"`.
        """
        from vitsmith.encode import Encoder

        with self._encoding:
            if self._encoder is None:
                try:
                    self.encoder = Encoder(self.space.model, num_images=1, what=self.space.what)
                except InputError as error:
                    what = "" if self.space.what == "pooled" else f", what={self.space.what!r}"
                    raise InputError(
                        f"the model of {self.folder}: {error} (or set `index.encoder` to  vitsmith.Encoder(PATH{what}))"
                    ) from error
            assert self._encoder is not None
            return self._encoder

    @encoder.setter
    def encoder(self, encoder: Encoder) -> None:
        check_searchable(self.folder, self.space)
        self.check_encoder(encoder)
        self._encoder = encoder

    def matching(self, where: str) -> Array:
        """The entries that fulfil a condition on columns, as "taken >= '2024-05-01'": bool (N,).

        Raises InputError for a mistake, and shows where it is.
        """
        return matching(self, where)

    @named_arguments
    def search(
        self,
        query: Any,
        count: int = 10,
        *,
        where: str | Array | None = None,
        min_score: float | None = None,
        without: Any = None,
        exclude_query: bool = False,
        approximate: bool = False,
    ) -> AnswerList:
        """The nearest entries to one query, best first.

        Args:
            query: words; an image (a path, bytes, a Pillow image, a uint8 array, a tensor); a vector of floats (E,); or
                a list of these, whose directions are added to one query. Text that looks like a path is an image.
            count: the number of answers.
            where: a condition on columns, as "taken >= '2024-05-01'", or bool (N,).
            min_score: the least cosine, from -1 to 1.
            without: what is subtracted from the query, of the same kinds.
            exclude_query: leave out entries that are the query itself, by path, content or text.
            approximate: faster in large indexes, but answers may be missing; needs faiss. See `AnswerList.searched`.

        Raises InputError for what cannot be read or has no direction, for what `exclude_query` cannot know the entry of
        (vectors and pixels), for a mistake in `where`, for an index of patches, and for a model that is not there or
        not that of the index.
        """
        from vitsmith.retrieval.queries.nearest import AnswerSettings, answer

        check_searchable(self.folder, self.space)
        if flag(exclude_query, "exclude_query") and any(map(_is_vector, _several(query))):
            raise InputError(
                "a vector has neither a path nor a content to find its own entry by: give the file or the text, or "
                "leave `exclude_query` out"
            )
        settings = AnswerSettings(
            count=count,
            min_score=min_score,
            allowed=matching(self, where) if isinstance(where, str) else where,
            exclude_query=exclude_query,
            approximate=self._approximate() if flag(approximate, "approximate") else None,
        )
        return answer(self, [self._query(_several(query), _several(without))], settings)[0]

    def classify(self, classifier: ZeroShotClassifier, *, where: str | Array | None = None) -> Iterator[Prediction]:
        """The predictions of a zero-shot classifier of the same model for the images, in their order; none is read.

        Raises InputError for a mistake in `where`, for an index of texts, class tokens or patches, and for another
        model.
        """
        from vitsmith.retrieval.queries.classify import classify_index

        return classify_index(classifier, self, allowed=matching(self, where) if isinstance(where, str) else where)

    def to_pandas(self, *, vectors: bool = False) -> Any:
        """A table of all entries: `id`, `path`, `copies`, the columns of the index and, if asked for, `vector` (E,).

        A row is an entry, as its vector is; `copies` are the ids of further files with the same content. Raises
        InputError without pandas.
        """
        frame = pandas().DataFrame
        ids = [name for part in range(len(self.description.parts)) for name in self.part_ids(part)]
        columns: dict[str, Any] = {"id": ids}
        if self.space.kind == "images":
            columns["path"] = [str(self.path_of(name)) for name in ids]
            columns["copies"] = self.copies(range(len(self)))
        # Older versions took any name for a column: these have `id` as `column_id`.
        own = {"id", "path", "copies", "vector"}
        held = self.columns(*self.column_names)
        columns |= {f"column_{name}" if name in own else name: values for name, values in held.items()}
        if flag(vectors, "vectors"):
            columns["vector"] = list(self.rows(np.arange(len(self))))
        return frame(columns)

    def _query(self, parts: Sequence[Any], without: Sequence[Any]) -> Query:
        from vitsmith.retrieval.queries.nearest import query_of
        from vitsmith.retrieval.queries.parts import part_of, whole_parts

        if not parts:
            raise InputError("the query is empty: give words, an image or a vector")
        every = [*parts, *without]
        given = [None if _is_vector(one) else part_of(one) for one in every]
        named = [part for part in given if part is not None]
        with self._encoding:
            rows = iter(whole_parts(self.encoder, named) if named else ())
        vectors = [one if part is None else next(rows) for one, part in zip(every, given, strict=True)]
        for one in vectors:
            if np.shape(one) != (self.space.width,):
                raise InputError(
                    f"a query is one vector of {self.space.width} numbers, not of shape {np.shape(one)}: search for "
                    "several at once with  vitsmith.search"
                )
        names = ["vector" if part is None else part.name for part in given]
        every_vector, at = check_queries(self, np.stack(vectors), 1), len(parts)
        mine = [part for part in given[:at] if part is not None]
        return query_of(names[:at], every_vector[:at], names[at:], every_vector[at:], parts=mine)

    def _approximate(self) -> ApproximateIndex:
        """Opened, or built, once: its whole file is hashed."""
        from vitsmith.retrieval.approximate import build_approximate, open_approximate

        with self._encoding:
            if self._program is None:
                self._program = open_approximate(self) or build_approximate(self)
            return self._program


@named_arguments
def open_index(folder: str | os.PathLike[str], *, unfinished: bool = False, verify: bool = True) -> SearchableIndex:
    """Open the index in `folder`, to read and to search. No model is opened yet.

    Ids and failures are compared with their hashes, vectors with their shape, and before their first use with their
    hashes too. With `verify=False` they are not, and a search only reports impossible vectors. Raises InputError for a
    folder that is not an index, a damaged index and, unless `unfinished`, an unfinished one.
    """
    opened = plain.open_index(folder, unfinished=unfinished, verify=verify)
    return SearchableIndex(opened.folder, opened.description, verify=verify)


def _several(query: Any) -> Sequence[Any]:
    return () if query is None else list(query) if isinstance(query, list | tuple) else [query]


def _is_vector(value: Any) -> bool:
    """Whether it is an array of floats: images are of whole numbers."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim <= 2
