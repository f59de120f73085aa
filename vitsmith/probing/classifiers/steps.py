"""How far long work is: what is called after each of its steps, and what shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class OnStep(Protocol):
    """A function that is called while work is done."""

    def __call__(self, steps: int = 1, note: str = "") -> None:
        """So many more steps are done; `note` says what they belong to, such as a fold."""


Watch = Callable[[str, int, str], AbstractContextManager[OnStep]]
"""Given what is done, the number of its steps (0: not known) and what a step is, gives what is called after each."""


def unwatched(steps: int = 1, note: str = "") -> None:
    """An `OnStep` that shows nothing."""


@contextmanager
def watch_nothing(doing: str, steps: int, unit: str) -> Iterator[OnStep]:
    """A `Watch` that shows nothing."""
    del doing, steps, unit
    yield unwatched
