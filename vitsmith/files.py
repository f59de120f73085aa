"""Writing so that nothing half-written is ever seen: to a neighbour first, then one rename."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vitsmith.errors import OutputError

PathLike = str | os.PathLike[str]


@contextmanager
def replacing(path: PathLike) -> Iterator[Path]:
    """Gives a temporary file beside `path` to write; on success it takes the place of `path`, else it vanishes."""
    target = Path(path)
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
        os.close(handle)
    partial = Path(name)
    try:
        with _explained(target):
            yield partial
            partial.chmod(0o666 & ~_umask())
            partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: PathLike) -> Iterator[Path]:
    """Gives a temporary folder beside `path` to fill; on success it takes the place of `path`, else it vanishes.

    An existing folder at `path` is replaced only once the new one is complete.
    """
    target = Path(path)
    with _explained(target):
        if target.exists() and not target.is_dir():
            raise OutputError(f"{target} is a file; choose another output folder")
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        with _explained(target):
            yield partial
            partial.chmod(0o777 & ~_umask())
            _swap(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_writable(path: PathLike) -> None:
    """Raises OutputError, before any work is done, when `path` could not be written. Leaves nothing behind."""
    target = Path(path)
    with _explained(target):
        place = next(parent for parent in target.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=place):
            pass


def write_text(path: PathLike, text: str) -> None:
    """Writes a whole text file, or leaves what was there."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def new_folder(path: PathLike) -> Path:
    """Makes `path`, or `path-2`, `path-3` ... when it exists and is not empty. Raises OutputError."""
    wanted = Path(path)
    with _explained(wanted):
        candidate, number = wanted, 1
        while candidate.exists() and (not candidate.is_dir() or any(candidate.iterdir())):
            number += 1
            candidate = wanted.with_name(f"{wanted.name}-{number}")
        candidate.mkdir(parents=True, exist_ok=True)
        return candidate


def sha256(path: PathLike) -> str:
    """Hexadecimal hash of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".old", dir=target.parent))
    target.rename(old / "was")
    try:
        partial.rename(target)
    except BaseException:
        (old / "was").rename(target)
        old.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}; choose another place") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
