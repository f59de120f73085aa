"""Near vectors in groups that do not chain, beside plain loops over all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from vitsmith.sorting import leaders as leaders_file
from vitsmith.sorting.leaders import count_steps, lead

WIDTH = 16


def near_ones(count: int, seed: int = 0, spread: float = 0.15) -> np.ndarray:
    """Unit vectors about a third as many centres: some pairs on each side of any threshold."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count // 3 + 1, WIDTH))
    vectors = centres[random.integers(len(centres), size=count)] + spread * random.normal(size=(count, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_loops(vectors: np.ndarray, threshold: float) -> tuple[list[int], list[float]]:
    """Each vector in turn: a leader, unless it is near one before it; then that of the nearest."""
    exact = vectors.astype(np.float64)
    cosines = (exact[:, None] * exact[None]).sum(axis=2).astype(np.float32)
    found: list[int] = []
    of, scores = [], []
    for at in range(len(vectors)):
        near = [leader for leader in found if cosines[leader, at] >= np.float32(threshold)]
        best = max(near, key=lambda leader: (cosines[leader, at], -leader), default=at)
        if best == at:
            found.append(at)
        of.append(best)
        scores.append(1.0 if best == at else float(cosines[best, at]))
    return of, scores


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaders_file, "TILE", 17)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("threshold", [0.2, 0.9, 0.97])
def test_groups_are_those_of_loops_over_all_pairs(dtype: type, threads: int, threshold: float) -> None:
    vectors = near_ones(160).astype(dtype)
    steps: list[int] = []
    led = lead(vectors, threshold, threads=threads, on_step=steps.append)
    of, scores = by_loops(vectors, threshold)
    assert led.leaders.tolist() == of and led.scores.tolist() == scores
    assert 20 < len(set(of)) < 150 or threshold == 0.2
    assert sum(steps) == count_steps(160)


def test_a_threshold_that_is_a_cosine_of_the_vectors_takes_that_pair_and_not_the_next() -> None:
    vectors = near_ones(60, seed=3)
    exact = vectors.astype(np.float64)
    cosines = np.sort((exact @ exact.T).astype(np.float32)[np.triu_indices(60, 1)])
    for limit in cosines[-20:]:
        for threshold in (limit, np.nextafter(limit, np.float32(2))):
            assert lead(vectors, float(threshold)).leaders.tolist() == by_loops(vectors, float(threshold))[0]


def test_groups_do_not_chain() -> None:
    angles = np.radians([0, 10, 20, 30, 90])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    led = lead(vectors, float(np.cos(np.radians(12))))
    assert led.leaders.tolist() == [0, 0, 2, 2, 4]  # each is near the first of its group, though 10 and 20 are near too
    assert lead(vectors[:0], 0.5).leaders.tolist() == [] and lead(vectors[:1], 0.5).leaders.tolist() == [0]


def test_equal_vectors_are_one_group_in_any_number() -> None:
    vectors = np.repeat(near_ones(2, seed=5), 100, axis=0)
    led = lead(vectors, 1.0 - 1e-6)
    assert sorted(np.bincount(led.leaders, minlength=200)[[0, 100]].tolist()) == [100, 100]
