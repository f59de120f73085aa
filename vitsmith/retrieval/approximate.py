"""Approximate search: only the neighbourhoods where answers are likely are searched. N vectors, E embedding width.

faiss (arXiv 2401.08281) assigns each vector to the nearest of some centres (an inverted file) and keeps 8 bits for each
number. The vectors that it finds are scored again, exactly, from the index itself: scores are exact, but some of the
nearest vectors may be missing. Their share is measured when the approximate index is built, and recorded.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, ValidationError

from vitsmith.arrays import Array
from vitsmith.errors import InputError, MissingPackageError
from vitsmith.fields import Frozen
from vitsmith.files.atomic import replacing, sha256, write_text
from vitsmith.retrieval.description import check_searchable
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.search import Found, check_allowed, check_queries, exact_scores, search

PROGRAM, FACTS = "approximate.faiss", "approximate.json"

_FORMAT = 1
_ENOUGH = 0.95  # share of the true ten nearest that must be found, on the sample
_SAMPLE = 200  # vectors of the index whose true neighbours are compared
_ANSWERS = 10
_CANDIDATES = 10  # this many times the requested number are scored exactly
_FEW = 10_000  # so few allowed vectors are all compared
_TRAINED_ON = 64  # vectors for each centre; faiss asks for 39 to 256


class Facts(Frozen):
    """The content of approximate.json."""

    format: int
    identity: str
    checksum: str = Field(description="checksum of the index that it was built from; it differs when the index grew")
    size: int = Field(description="bytes of approximate.faiss")
    centres: int
    probes: int = Field(description="neighbourhoods that are searched for each query")
    recall: float = Field(description="share of the true ten nearest that are found, for a sample of the vectors")
    seal: str = Field("", description="SHA-256 over approximate.faiss and all the above; older files have none")

    def sealed(self, program: Path) -> Facts:
        """A copy with the seal over `program`, which is read completely."""
        rest = self.model_dump_json(exclude={"seal"})
        return self.model_copy(update={"seal": hashlib.sha256(f"{rest} {sha256(program)}".encode()).hexdigest()})


@dataclass(frozen=True)
class ApproximatelyFound(Found):
    """The nearest of the vectors that were looked at."""

    looked_at: Array
    """int64 (Q,): the number of vectors among which they were found, of N."""


class ApproximateIndex:
    """The approximate search over an index."""

    def __init__(self, index: Index, program: Any, facts: Facts) -> None:
        self.index, self.facts = index, facts
        self._program = program

    def search(self, queries: Array, count: int = 10, *, allowed: Array | None = None) -> ApproximatelyFound:
        """Up to `count` of the nearest vectors of each of (Q, E) unit vectors, with exact scores, best first.

        `allowed` bool (N,): the vectors that may be answers. Where they are so few that all of them are fewer than a
        search looks at, all are compared. Otherwise more neighbourhoods are searched until there are `count` answers,
        or none is left; so there are as many answers as an exact search gives.

        It may be called from several threads. Raises InputError when a found vector is damaged.
        """
        index = self.index
        queries = check_queries(index, queries, count)
        allowed, most = check_allowed(index, allowed)
        probes = min(self.facts.probes, self.facts.centres)
        if allowed is not None and most <= max(_FEW, len(index) * probes // self.facts.centres):
            found = search(index, queries, count, allowed=allowed)
            return ApproximatelyFound(found.scores, found.positions, np.full(len(queries), len(index)))
        count = min(count, most)
        wanted = min(max(count * _CANDIDATES, 100), most)
        positions = np.full((len(queries), wanted), -1, np.int64)
        looked_at = np.zeros(len(queries), np.int64)
        left = np.arange(len(queries))
        while len(left):
            positions[left] = self._nearest(queries[left], wanted, probes, allowed)
            looked_at[left] = self._sizes(queries[left], probes)
            if probes == self.facts.centres:
                break
            left = left[(positions[left] >= 0).sum(axis=1) < count]
            probes = min(2 * probes, self.facts.centres)
        scores = self._exact_scores(queries, positions)
        order = np.lexsort((positions, -scores), axis=1)[:, :count]
        return ApproximatelyFound(
            np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1), looked_at
        )

    def _nearest(self, queries: Array, wanted: int, probes: int, allowed: Array | None) -> Array:
        """Positions (Q, wanted) that are probably nearest, -1 behind the last."""
        faiss = _faiss()
        selector = {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
        parameters = faiss.SearchParametersIVF(nprobe=probes, **selector)
        positions: Array = self._program.search(queries, wanted, params=parameters)[1]
        if (positions >= len(self.index)).any():
            raise InputError(f"{self.index.folder / PROGRAM} is damaged: delete it, and build it again")
        return positions

    def _sizes(self, queries: Array, probes: int) -> Array:
        """The number of vectors in the neighbourhoods of each query (Q,)."""
        chosen = self._program.quantizer.search(queries, probes)[1]
        looked_at: Array = np.where(chosen >= 0, self._list_sizes[chosen], 0).sum(axis=1)
        return looked_at

    @cached_property
    def _list_sizes(self) -> Array:
        """(centres,) the number of vectors in each neighbourhood."""
        lists = self._program.invlists
        return np.array([lists.list_size(centre) for centre in range(self.facts.centres)])

    def _exact_scores(self, queries: Array, positions: Array) -> Array:
        there = positions >= 0
        scores = np.full(positions.shape, -np.inf, np.float32)
        for query in range(len(queries)):
            rows = self.index.sound_rows(positions[query][there[query]])
            scores[query, there[query]] = exact_scores(rows, queries[query].astype(np.float64))
        return scores


def open_approximate(index: Index) -> ApproximateIndex | None:
    """The approximate index beside `index`; None when there is none, or it was built before the index changed.

    Raises MissingPackageError without faiss, and InputError for a damaged approximate index.
    """
    faiss = _faiss()
    path = index.folder / PROGRAM
    try:
        facts = Facts.model_validate_json((index.folder / FACTS).read_text(encoding="utf-8"))
        fits = (facts.format, facts.identity, facts.checksum, facts.size) == (
            _FORMAT, index.space.identity, index.description.checksum, path.stat().st_size,
        )  # fmt: skip
        if not fits or not facts.seal:
            return None
        whole = facts.sealed(path) == facts
    except (OSError, ValidationError, UnicodeDecodeError):
        return None
    if not whole:
        raise InputError(
            f"{path} or {FACTS} is damaged (its SHA-256 differs): build it again with  "
            f"vitsmith retrieve --index {index.folder} --build-approximate"
        )
    return ApproximateIndex(index, _read(faiss, path), facts)


def build_approximate(index: Index, *, on_step: Callable[[str], None] | None = None) -> ApproximateIndex:
    """Build the approximate index and write it beside `index`, as approximate.faiss.

    It takes one byte of memory for each number of the vectors, and a sample of 64 sqrt(N) vectors in float32. The
    number of neighbourhoods to search is chosen so that 95% of the true ten nearest are found for a sample.

    Raises InputError for a damaged or empty index, MissingPackageError without faiss.
    """
    faiss = _faiss()
    check_searchable(index.folder, index.space)
    if not len(index):
        raise InputError(f"{index.folder} holds no vectors, so there is nothing to search")
    tell = on_step or (lambda step: None)
    tell("checking the vectors")
    index.check_hashes()
    centres = max(1, round(len(index) ** 0.5))
    quantizer = faiss.IndexFlatIP(index.space.width)
    program = faiss.IndexIVFScalarQuantizer(
        quantizer, index.space.width, centres, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    program.cp.min_points_per_centroid = 1  # otherwise it warns of small samples, on standard output
    tell(f"finding {centres:,} centres")
    generator = np.random.default_rng(0)
    sample = np.sort(generator.choice(len(index), min(len(index), _TRAINED_ON * centres), replace=False))
    program.train(index.rows(sample).astype(np.float32))
    tell("adding the vectors")
    for part in range(len(index.description.parts)):
        vectors = np.asarray(index.vectors(part), np.float32)
        if len(vectors):
            program.add(vectors)
    tell("measuring the recall")
    facts = Facts(
        format=_FORMAT, identity=index.space.identity, checksum=index.description.checksum, size=0, centres=centres,
        probes=1, recall=0,
    )  # fmt: skip
    found = _tune(ApproximateIndex(index, program, facts), generator)
    return _keep(faiss, found)


def _tune(built: ApproximateIndex, generator: np.random.Generator) -> ApproximateIndex:
    """A copy with the fewest probes, among powers of two, that find enough."""
    index = built.index
    chosen = np.sort(generator.choice(len(index), min(len(index), _SAMPLE), replace=False))
    queries = index.rows(chosen).astype(np.float32)
    truth = search(index, queries, _ANSWERS)
    probes = 1
    while True:
        probes = min(probes, built.facts.centres)
        built.facts = built.facts.model_copy(update={"probes": probes})
        found = built.search(queries, _ANSWERS)
        # Compare scores, not positions: it does not matter which of several equal vectors is found.
        recall = float(np.mean(found.scores >= truth.scores[:, -1:]))
        built.facts = built.facts.model_copy(update={"recall": recall})
        if recall >= _ENOUGH or probes == built.facts.centres:
            return built
        probes *= 2


def _keep(faiss: Any, built: ApproximateIndex) -> ApproximateIndex:
    folder = built.index.folder
    with replacing(folder / PROGRAM) as partial:
        faiss.write_index(built._program, str(partial))
    file = folder / PROGRAM
    facts = built.facts.model_copy(update={"size": file.stat().st_size}).sealed(file)
    write_text(folder / FACTS, facts.model_dump_json(indent=1) + "\n")
    return ApproximateIndex(built.index, _read(faiss, folder / PROGRAM), facts)


def _read(faiss: Any, path: Path) -> Any:
    """Map the file, so that only the neighbourhoods that are searched are read."""
    try:
        return faiss.read_index(os.fspath(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
    except Exception as error:  # faiss's own errors, and MemoryError for impossible sizes
        raise InputError(
            f"{path} cannot be read ({' '.join(str(error).split())}): delete it, and build it again"
        ) from None


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise MissingPackageError("faiss", "ann") from None
    return faiss
