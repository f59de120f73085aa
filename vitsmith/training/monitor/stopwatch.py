"""Measures how long an update takes, and how much of that is spent waiting for images."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """It runs from one update to the next."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Starts the next update."""
        self._began, self._waited = time.perf_counter(), 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time within the context as waiting."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def read(self) -> tuple[float, float]:
        """Seconds since the restart, and the share of them spent waiting."""
        seconds = time.perf_counter() - self._began
        return seconds, self._waited / seconds
