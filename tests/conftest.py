"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one file of tests a core: threads of theirs would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is remembered from one run of the tests to the next, and the user's cache stays as it is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITSMITH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
