"""Exact search beside NumPy's brute force, and the approximate one beside the exact."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from vitsmith.errors import InputError, MissingPackageError
from vitsmith.retrieval import search as search_file
from vitsmith.retrieval.approximate import build_approximate, open_approximate
from vitsmith.retrieval.description import Space
from vitsmith.retrieval.index import Index, open_index
from vitsmith.retrieval.search import search
from vitsmith.retrieval.writer import IndexWriter

WIDTH = 24


def unit(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, WIDTH)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def write(folder: Path, vectors: np.ndarray, *, dtype: Any = "float16", part_rows: int = 70) -> Index:
    space = Space(kind="images", identity="a" * 32, model="ours", width=vectors.shape[1], dtype=dtype)
    with IndexWriter(folder, space, part_rows=part_rows) as writer:
        for number, vector in enumerate(vectors):
            writer.add((f"{number}.jpg", vector))
        return writer.finish()


def brute_force(vectors: np.ndarray, queries: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Everything against everything, sorted; of equal scores the first."""
    scores = queries @ vectors.astype(np.float32).T
    order = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(scores, order, axis=1), order


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes that divide nothing evenly: 7 rows in a block, 33 in a chunk, 5 queries, 11 candidates."""
    monkeypatch.setattr(search_file, "_CONVERTED", 7 * WIDTH)
    monkeypatch.setattr(search_file, "_CHUNK", 33)
    monkeypatch.setattr(search_file, "_QUERIES", 5)
    monkeypatch.setattr(search_file, "_RESCORED", 11)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("count", [1, 10, 40, 1000])
def test_answers_are_those_of_brute_force(tmp_path: Path, dtype: str, threads: int, count: int) -> None:
    """Several parts, the last one short; as many answers as asked for, or all there are."""
    vectors, queries = unit(500), unit(13, seed=1)
    index = write(tmp_path / "index", vectors, dtype=dtype)
    found = search(index, queries, count, threads=threads)
    scores, positions = brute_force(vectors.astype(dtype), queries, count)
    assert found.positions.shape == (13, min(count, 500))
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_rows_in_order_of_their_score_are_no_harder(tmp_path: Path, order: str) -> None:
    """Every piece better than all before it, or none."""
    vectors, query = unit(400), unit(1, seed=2)
    scores = (vectors.astype(np.float16).astype(np.float32) @ query.T)[:, 0]
    vectors = vectors[np.argsort(scores if order == "ascending" else -scores)]
    found = search(write(tmp_path / "index", vectors), query, 7)
    np.testing.assert_array_equal(found.positions, brute_force(vectors.astype(np.float16), query, 7)[1])


def test_of_equal_scores_the_lower_position_comes_first(tmp_path: Path) -> None:
    """Copies of 5 vectors all over the index, in pieces of every kind, more of them than are asked for."""
    copies = unit(5)[np.random.default_rng(3).integers(0, 5, 300)]
    queries = unit(6, seed=4)
    for threads in (1, 2):
        found = search(write(tmp_path / str(threads), copies), queries, 120, threads=threads)
        exact = (copies.astype(np.float16).astype(np.float64) @ queries.T.astype(np.float64)).astype(np.float32).T
        for query in range(6):
            expected = sorted(range(300), key=lambda at: (-exact[query, at], at))[:120]
            assert found.positions[query].tolist() == expected
    same = search(write(tmp_path / "same", np.repeat(unit(1), 100, axis=0)), queries, 9)
    assert same.positions.tolist() == [list(range(9))] * 6


@pytest.mark.parametrize("count", [1, 2, 10])
@pytest.mark.parametrize("noise", [2e-6, 1e-3])
def test_neighbours_closer_than_float32_can_tell_are_ranked_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: float, count: int
) -> None:
    """Coarse scores that are off by nearly all that they may be change nothing, however the wind blows."""
    base = unit(1)
    vectors = base + noise * np.random.default_rng(5).normal(size=(300, WIDTH)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = write(tmp_path / "index", vectors, dtype="float32")
    exact = (vectors.astype(np.float64) @ base[0].astype(np.float64)).astype(np.float32)
    expected = np.lexsort((np.arange(300), -exact))[:count]
    take = search_file._Nearest.take
    for seed in range(20):
        generator = np.random.default_rng(seed)

        def blurred(self: Any, piece: Any, scores: np.ndarray, chance: np.random.Generator = generator) -> None:
            off = chance.choice([-0.95, 0.95], scores.shape) * WIDTH * 2.0**-24
            take(self, piece, (scores + off).astype(np.float32))

        monkeypatch.setattr(search_file._Nearest, "take", blurred)
        assert search(index, base, count, threads=1).positions[0].tolist() == expected.tolist()


def test_threads_that_saw_the_rows_in_any_order_agree() -> None:
    vectors = np.repeat(unit(4), 6, axis=0)
    queries = unit(2, seed=1)
    scores = vectors @ queries.T
    best = np.argsort(-(queries @ unit(4).T), axis=1)[:, :2]  # six copies of one, then three of the next
    expected = (np.repeat(best * 6, 6, axis=1) + np.tile(np.arange(6), 2))[:, :9]
    for first in ((0, 8), (8, 24), (16, 24)):
        one, other = search_file._Nearest(queries, 9), search_file._Nearest(queries, 9)
        one.take(search_file._Piece(first[0], vectors[slice(*first)]), scores[slice(*first)])
        for start in (20, 16, 12, 8, 4, 0):
            if not first[0] <= start < first[1]:
                piece = search_file._Piece(start, vectors[start : start + 4])
                other.take(piece, scores[start : start + 4])
        one.merge(other)
        np.testing.assert_array_equal(one.found().positions, expected)


def test_scores_in_float32_are_within_the_bound() -> None:
    """The bound on rounding, with the worst that was found: vectors of one sign, which add up."""
    generator = np.random.default_rng(7)
    for width in (8, 768):
        vectors = np.abs(generator.normal(size=(2000, width))).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        queries = vectors[:4]
        exact = vectors.astype(np.float64) @ queries.T.astype(np.float64)
        naive = np.zeros((2000, 4), np.float32)
        for column in range(width):  # one term after the other: the worst order
            naive += vectors[:, column : column + 1] * queries[:, column]
        for scores in (naive, vectors @ queries.T):
            assert np.abs(scores - exact).max() < search_file._rounding(queries).min()


def test_every_float16_is_converted_exactly() -> None:
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(-1, 64)
    block = np.empty((2000, 64), np.float32)
    found = search_file.as_float32(every, block)
    wanted = every.astype(np.float32)
    finite = np.isfinite(wanted)
    np.testing.assert_array_equal(found[finite].view(np.int32), wanted[finite].view(np.int32))
    assert np.isnan(found[~finite]).all()
    sound = unit(1000).astype(np.float16)
    np.testing.assert_array_equal(search_file.as_float32(sound, np.empty((1000, WIDTH), np.float32)), sound)


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_a_number_that_is_none_is_told_also_where_the_query_is_zero(tmp_path: Path, value: float) -> None:
    index = write(tmp_path / "index", unit(200))
    vectors = np.load(tmp_path / "index" / "part-000000.npy")
    vectors[50, 3] = value
    np.save(tmp_path / "index" / "part-000000.npy", vectors)
    query = np.eye(1, WIDTH, dtype=np.float32)
    with pytest.raises(InputError, match=r"vector"):
        search(open_index(tmp_path / "index", verify=False), query, 1)
    assert len(index) == 200


def test_threads_that_multiply_are_left_as_they_were(tmp_path: Path) -> None:
    def threads() -> list[int]:
        return [one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"]

    index = write(tmp_path / "index", unit(200))
    with threadpool_limits(limits=2, user_api="blas"):
        before, during = threads(), []
        limited = search_file._nearest_of
        search_file._nearest_of = lambda *given: (during.append(threads()), limited(*given))[1]
        try:
            search(index, unit(1), threads=2)
        finally:
            search_file._nearest_of = limited
        assert threads() == before and set(before) == {2}
        assert {count for counts in during for count in counts} == {1}


@pytest.mark.parametrize("share", [0.01, 0.5, 0.97, "block"])
@pytest.mark.parametrize("threads", [1, 3])
def test_only_allowed_vectors_are_answers_and_their_scores_are_the_same_bits(
    tmp_path: Path, share: Any, threads: int
) -> None:
    vectors, queries = unit(500), unit(7, seed=1)
    at = np.arange(500)
    allowed = (at >= 200) & (at < 290) if share == "block" else np.random.default_rng(2).random(500) < share
    index = write(tmp_path / "index", vectors)
    chosen = np.flatnonzero(allowed)
    found = search(index, queries, 30, allowed=allowed, threads=threads)
    scores, order = brute_force(vectors.astype(np.float16)[chosen], queries, 30)
    np.testing.assert_array_equal(found.positions, chosen[order])
    np.testing.assert_allclose(found.scores, scores, atol=1e-6)
    every = search(index, queries, 500)
    for query in range(7):
        known = dict(zip(every.positions[query].tolist(), every.scores[query].tolist(), strict=True))
        assert [known[one] for one in found.positions[query].tolist()] == found.scores[query].tolist()


def test_masks_of_all_none_and_the_wrong_kind(tmp_path: Path) -> None:
    index = write(tmp_path / "index", unit(100))
    whole = search(index, unit(3, seed=1), 5, allowed=np.ones(100, bool))
    np.testing.assert_array_equal(whole.positions, search(index, unit(3, seed=1), 5).positions)
    assert search(index, unit(3), 5, allowed=np.zeros(100, bool)).positions.shape == (3, 0)
    for wrong in (np.ones(99, bool), np.ones(100), np.arange(5), [True] * 100):
        with pytest.raises(InputError, match="`allowed` must be an array of True and False, one for each of the 100"):
            search(index, unit(1), 5, allowed=wrong)


def test_searches_of_several_threads_take_turns(tmp_path: Path) -> None:
    index, queries = write(tmp_path / "index", unit(500)), unit(12, seed=1)
    one_by_one = [search(index, queries[at : at + 1], 9).positions.tolist() for at in range(12)]
    with threadpool_limits(limits=2, user_api="blas"), ThreadPoolExecutor(6) as pool:
        found = pool.map(lambda at: search(index, queries[at : at + 1], 9).positions.tolist(), range(12))
        assert list(found) == one_by_one
        assert {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"} == {2}


def test_an_index_that_is_empty_or_has_empty_parts(tmp_path: Path) -> None:
    from vitsmith.stream import Failure

    empty = write(tmp_path / "empty", unit(0))
    assert search(empty, unit(2)).positions.shape == (2, 0)
    assert search(write(tmp_path / "some", unit(9)), unit(0)).positions.shape == (0, 9)
    with IndexWriter(tmp_path / "holes", empty.space, part_rows=2) as writer:
        for number in range(8):
            bad = number in (2, 3, 6)
            writer.add(Failure(str(number), "bad") if bad else (str(number), unit(8)[number]))
        index = writer.finish()
    assert [part.rows for part in index.description.parts] == [2, 0, 2, 1]
    found = search(index, unit(8)[7:], 3)
    assert index.ids(found.positions[0])[0] == "7"
    np.testing.assert_array_equal(found.positions, brute_force(index.rows(range(5)), unit(8)[7:], 3)[1])


def test_queries_that_cannot_be(tmp_path: Path) -> None:
    index = write(tmp_path / "index", unit(9))
    with pytest.raises(InputError, match=r"queries must be \(queries, 24\), got \(1, 23\)"):
        search(index, unit(1)[:, 1:])
    with pytest.raises(InputError, match="a query holds NaN or infinity"):
        search(index, unit(1) * np.nan)
    with pytest.raises(InputError, match="number of answers must be a whole number of at least 1, not 0"):
        search(index, unit(1), 0)


# --- damaged vectors --------------------------------------------------------------------------------------------------


def overwrite(index: Index, position: int, vector: np.ndarray) -> Index:
    """The index, opened anew and not to be verified, with another vector at `position`."""
    part = int(np.searchsorted(index.starts, position, side="right")) - 1
    path = index.folder / f"part-{part:06d}.npy"
    vectors = np.load(path)
    vectors[position - index.starts[part]] = vector
    np.save(path, vectors)
    return open_index(index.folder, verify=False)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("wrong", [1600.0, -1600.0, 1.5, np.nan, np.inf, -np.inf])
def test_a_vector_that_cannot_be_is_told(tmp_path: Path, wrong: float, dtype: str) -> None:
    """Also where it is no answer: it might have been one."""
    queries = unit(8, seed=1)
    queries[6] = np.eye(WIDTH)[5]
    index = write(tmp_path / "index", unit(200), dtype=dtype)
    for position in (0, 69, 70, 150, 199):
        vector = index.rows([position])[0].copy()
        vector[5] = wrong
        part, row = divmod(position, 70)
        opened = overwrite(index, position, vector)
        for threads in (1, 3):
            with pytest.raises(
                InputError, match=rf"part-00000{part}\.npy is damaged \(row {row} is not a unit vector\)"
            ):
                search(opened, queries, 3, threads=threads)
            with pytest.raises(InputError, match=rf"row {row} is not a unit vector"):
                search(opened, queries[6:7], 3, threads=threads)
        overwrite(index, position, unit(200)[position])


def test_an_answer_that_is_too_long_is_told(tmp_path: Path) -> None:
    """Though its score could be that of a unit vector."""
    query, aside = np.eye(WIDTH, dtype=np.float32)[:2]
    vectors = unit(90) * np.where(np.arange(WIDTH) < 2, 0, 1).astype(np.float32)
    index = write(tmp_path / "index", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    opened = overwrite(index, 80, 0.9 * query + 0.6 * aside)
    with pytest.raises(
        InputError, match=r"part-000001\.npy is damaged \(row 10 is not a unit vector\): copy the index again"
    ):
        search(opened, query[None], 1)
    with pytest.raises(InputError, match=r"part-000001\.npy is damaged"):
        search(opened, np.stack([*unit(20), query]), 1)
    hidden = overwrite(index, 80, -0.9 * query + 0.6 * aside)  # no answer: only the hash tells
    assert 80 not in search(hidden, query[None], 50).positions
    with pytest.raises(InputError, match=r"part-000001\.npy is damaged \(its SHA-256 differs\)"):
        hidden.check_hashes()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("sign", [1, -1])
def test_vectors_as_long_as_they_may_be_are_not_taken_for_damaged(tmp_path: Path, sign: int, dtype: str) -> None:
    vectors = unit(50) * np.float32(1.0095)
    found = search(write(tmp_path / "index", vectors, dtype=dtype), sign * unit(50), 50)
    assert np.abs(found.scores).max() == pytest.approx(1.0095, abs=1e-3)
    assert (
        search(write(tmp_path / "zero", np.zeros((3, WIDTH), np.float32)), unit(2), 2).scores.tolist() == [[0, 0]] * 2
    )


# --- approximate ------------------------------------------------------------------------------------------------------


def clustered(count: int) -> np.ndarray:
    generator = np.random.default_rng(8)
    centres = generator.normal(size=(20, WIDTH))
    vectors = (centres[generator.integers(0, 20, count)] + 0.5 * generator.normal(size=(count, WIDTH))).astype("f4")
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_approximate_search_finds_nearly_all_and_says_how_many(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors = clustered(2200)
    index = write(tmp_path / "index", vectors[:2000], part_rows=600)
    assert open_approximate(index) is None
    steps: list[str] = []
    built = build_approximate(index, on_step=steps.append)
    assert built.facts.recall >= 0.95 and built.facts.centres == 45 and built.facts.probes < 45 and len(steps) == 4
    opened = open_approximate(open_index(tmp_path / "index"))
    assert opened is not None and opened.facts == built.facts
    queries = vectors[2000:]
    exact, found = search(index, queries, 10), opened.search(queries, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(exact.positions.tolist(), found.positions.tolist(), strict=True)]
    assert np.mean(shared) >= 9
    for query in range(200):
        there = np.isin(found.positions[query], exact.positions[query])
        truth = dict(zip(exact.positions[query].tolist(), exact.scores[query].tolist(), strict=True))
        assert all(
            truth[position] == score
            for position, score in zip(
                found.positions[query][there].tolist(), found.scores[query][there].tolist(), strict=True
            )
        ), "scores are exact"
        assert (np.diff(found.scores[query]) <= 0).all()


def test_all_neighbourhoods_together_are_exact(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    index = write(tmp_path / "index", clustered(90))
    built = build_approximate(index)
    built.facts = built.facts.model_copy(update={"probes": built.facts.centres})
    queries = unit(5, seed=9)
    np.testing.assert_array_equal(built.search(queries, 200).positions, search(index, queries, 200).positions)


def test_it_tells_how_many_vectors_it_looked_at(tmp_path: Path) -> None:
    """Counted anew: the vectors whose nearest centre is among those nearest to the query."""
    faiss = pytest.importorskip("faiss")
    index = write(tmp_path / "index", clustered(2000), part_rows=600)
    built, queries = build_approximate(index), clustered(50)[30:]
    program = faiss.read_index(str(tmp_path / "index" / "approximate.faiss"))
    centres = program.quantizer.reconstruct_n(0, built.facts.centres)
    homes = (index.rows(np.arange(2000)).astype("f4") @ centres.T).argmax(axis=1)
    searched = np.argsort(-(queries @ centres.T), axis=1)[:, : built.facts.probes]
    expected = [int(np.isin(homes, row).sum()) for row in searched]
    assert built.search(queries, 5).looked_at.tolist() == expected and max(expected) < 2000


@pytest.mark.parametrize("few", [0, 10_000])
def test_with_a_mask_it_gives_as_many_answers_as_the_exact_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr("vitsmith.retrieval.approximate._FEW", few)
    index, queries = write(tmp_path / "index", clustered(2000)), unit(20, seed=9)
    built = build_approximate(index)
    for share in (0.002, 0.05, 0.6):
        allowed = np.random.default_rng(3).random(2000) < share
        exact, found = search(index, queries, 60, allowed=allowed), built.search(queries, 60, allowed=allowed)
        assert found.positions.shape == exact.positions.shape and allowed[found.positions].all()
        assert all(len(set(row)) == len(row) for row in found.positions.tolist())
        if few or share == 0.002:  # all are compared
            np.testing.assert_array_equal(found.positions, exact.positions)
            assert found.looked_at.tolist() == [2000] * 20
    assert built.search(queries, 5, allowed=np.zeros(2000, bool)).positions.shape == (20, 0)


def test_an_approximate_index_that_does_not_fit_is_not_used(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    folder = tmp_path / "index"
    vectors = unit(60)
    build_approximate(write(folder, vectors[:50]))
    assert open_approximate(open_index(folder)) is not None
    with IndexWriter(folder, open_index(folder).space) as writer:  # it grows
        writer.reopen()
        writer.add(("more", vectors[50]))
        grown = writer.finish()
    assert open_approximate(grown) is None
    build_approximate(grown)
    opened = open_approximate(grown)
    assert opened is not None and opened.search(vectors[50:51], 1).positions.tolist() == [[50]]
    program = folder / "approximate.faiss"
    data = program.read_bytes()
    program.unlink()  # it is mapped: to shorten the file itself would take the memory away from under faiss
    program.write_bytes(data[:-9])
    assert open_approximate(grown) is None
    (folder / "approximate.json").write_text("{")
    assert open_approximate(grown) is None


def test_the_approximate_search_tells_damaged_answers(tmp_path: Path) -> None:
    pytest.importorskip("faiss")
    vectors = unit(60)
    index = write(tmp_path / "index", vectors)
    build_approximate(index)
    for wrong in (np.full(WIDTH, 600), np.full(WIDTH, np.nan), 1.1 * vectors[7]):
        opened = open_approximate(overwrite(index, 7, wrong))
        assert opened is not None
        with pytest.raises(InputError, match=r"part-000000\.npy is damaged \(row 7 is not a unit vector\)"):
            opened.search(vectors[7:8], 1)


def test_without_faiss_the_install_line_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    index = write(tmp_path / "index", unit(9))
    for use in (open_approximate, build_approximate):
        with pytest.raises(MissingPackageError, match=r"pip install 'vitsmith\[ann\]'"):
            use(index)
