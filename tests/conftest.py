"""What holds for every test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from vitsmith.evaluation.timing import Pace, time_in_turns

if "PYTEST_XDIST_WORKER" in os.environ:  # one file of tests a core: threads of theirs would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is remembered from one run of the tests to the next, and the user's cache stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITSMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _short_races() -> Iterator[None]:
    """Races between programs are run, and last a moment: no test asks who wins them."""

    def time_shortly(runs: Any, batch: int, pace: Pace, **options: Any) -> Any:
        if pace.clock is time.perf_counter:
            pace = replace(pace, seconds=min(pace.seconds, 0.06), turns=min(pace.turns, 3))
        return time_in_turns(runs, batch, pace, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitsmith.evaluation.speed.time_in_turns", time_shortly)
        yield


@pytest.fixture(autouse=True)
def _memory_as_in_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test before may have called `give_back_freed_memory`: plans have no holes in the heap from then on."""
    if plan := sys.modules.get("vitsmith.training.memory.plan"):
        monkeypatch.setattr(plan, "_compact", [False])
