"""Queries by the approximate search, with conditions, a least score and without the query itself, beside the exact."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.retrieval.indexes import SPACE, WIDTH
from vitsmith.cli.terminal.found import tell_searched
from vitsmith.retrieval.index import Index
from vitsmith.retrieval.queries.nearest import AnswerSettings, Query, answer
from vitsmith.retrieval.queries.parts import QueryPart
from vitsmith.retrieval.queries.where import matching
from vitsmith.retrieval.writer import IndexWriter

COUNT = 600
approximate = pytest.importorskip("vitsmith.retrieval.approximate")
pytest.importorskip("faiss")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The approximate search of vectors in thirty groups; each has a number."""
    generator = np.random.default_rng(1)
    vectors = generator.normal(size=(30, WIDTH)).repeat(COUNT // 30, axis=0) + 0.2 * generator.normal(
        size=(COUNT, WIDTH)
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    with IndexWriter(tmp_path_factory.mktemp("index") / "index", SPACE, part_rows=100) as writer:
        for number, vector in enumerate(vectors.astype(np.float32)):
            writer.add((f"{number}.jpg", vector), None, {"number": number})
        index = writer.finish()
    return approximate.build_approximate(index)


@pytest.fixture
def few(program: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """It looks at two of its neighbourhoods, also where few entries fulfil a condition."""
    monkeypatch.setattr(approximate, "_FEW", 0)
    monkeypatch.setattr(program, "facts", program.facts.model_copy(update={"probes": 2}))
    yield program


def queries(index: Index) -> list[Query]:
    chosen = range(0, COUNT, 37)
    vectors = index.rows(chosen).astype(np.float32)
    names = index.ids(chosen)
    return [
        Query(name, vector / np.linalg.norm(vector), (QueryPart(name, name),))
        for name, vector in zip(names, vectors, strict=True)
    ]


COMBINED = list(itertools.product(("", "number >= 100", "number < 45"), (None, 0.9), (False, True)))


@pytest.mark.parametrize(("where", "min_score", "exclude"), COMBINED)
def test_each_option_means_what_it_does_in_the_exact_search(
    few: Any, monkeypatch: pytest.MonkeyPatch, where: str, min_score: float | None, exclude: bool
) -> None:
    index = few.index
    allowed = matching(index, where) if where else None
    exact = AnswerSettings(10, min_score, allowed, exclude)
    asked, expected = queries(index), answer(index, queries(index), exact)
    for found, truth, query in zip(answer(index, asked, replace(exact, approximate=few)), expected, asked, strict=True):
        assert found.searched < 1 or where == "number < 45"
        order = [(-one.score, one.position) for one in found]
        assert order == sorted(order) and not (exclude and query.name in [one.id for one in found])
        vectors = index.rows([one.position for one in found]).astype(np.float64)
        np.testing.assert_allclose([one.score for one in found], (vectors @ query.vector).clip(-1, 1), atol=1e-6)
        assert all(allowed is None or allowed[one.position] for one in found)
        assert all(one.score >= (min_score or -1) for one in found)
        if min_score is None:
            assert len(found) == len(truth) == 10, "as many answers as the exact search has"
        if not found:
            assert (
                re.match(r"no entry.* has a score of 0\.9: the best of those compared has 0\.", found.note)
                or truth == found
            )
    monkeypatch.setattr(few, "facts", few.facts.model_copy(update={"probes": few.facts.centres}))
    whole = answer(index, asked, replace(exact, approximate=few))
    assert [one.found for one in whole] == [one.found for one in expected] and {one.searched for one in whole} == {1}
    assert [one.note for one in whole] == [one.note for one in expected]


def test_what_may_be_left_out_is_told(few: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    index, asked = few.index, queries(few.index)[:2]

    def told(**options: Any) -> str:
        settings = AnswerSettings(approximate=few, **options)
        tell_searched(settings, answer(index, asked, settings))
        return str(capsys.readouterr().err)

    found = answer(index, asked, AnswerSettings(approximate=few))
    compared = round(sum(one.searched for one in found) / 2 * COUNT)
    assert 0 < compared < COUNT and repr(found[0]).startswith(
        f"<10 answers to '0.jpg', after {found[0].searched:.1%} of the entries were compared>\n"
    )
    start = (
        f"approximate: compared {compared} of 600 vectors (2 of {few.facts.centres} clusters, or more to find enough)"
    )
    recall = f"; that finds {few.facts.recall:.1%} of the true 10 nearest of a sample"
    end = ": for all answers leave out --approximate\n"
    assert told() == told(allowed=np.ones(COUNT, bool)) == start + recall + end
    some = matching(index, "number >= 30")
    assert told(allowed=some, min_score=0.5).endswith(
        f"{recall}, without --where, and more answers may reach --min-score{end}"
    )
    assert told(min_score=0.5) == f"{start}{recall}, and more answers may reach --min-score{end}"
    monkeypatch.setattr(approximate, "_FEW", COUNT)
    assert told(allowed=some) == "approximate: compared all 570 that fulfil --where, of 600 vectors\n"
    monkeypatch.setattr(few, "facts", few.facts.model_copy(update={"probes": few.facts.centres}))
    assert told() == "approximate: compared all 600 vectors\n"
