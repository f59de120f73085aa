"""What this process has written whole by now, for what is told of an interruption."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_written: list[Path] = []


@contextmanager
def noting_written(place: Path) -> Iterator[None]:
    """Note, however this ends, that another file or folder is at `place` than before: each is put there whole."""
    before = _identity(place)
    try:
        yield
    finally:
        if _identity(place) not in (None, before):
            _written.append(place)


def written() -> tuple[Path, ...]:
    """The outputs that were written, in their order."""
    return tuple(_written)


def forget_written() -> None:
    """Forget them: a command begins."""
    _written.clear()


def _identity(place: Path) -> tuple[int, int] | None:
    """None for nothing, and for an empty folder, which is only reserved."""
    with suppress(OSError):
        if place.is_dir() and next(place.iterdir(), None) is None:
            return None
        facts = place.stat()
        return facts.st_dev, facts.st_ino
    return None
