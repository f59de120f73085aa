"""Lock files: only one process at a time has the lock, and the system releases it when that process ends in any way.

POSIX has flock, Windows msvcrt.locking. Some network file systems have neither; there several processes may have the
lock.
"""

from __future__ import annotations

import importlib
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from vitsmith.escapes import shortened, typed_command

_POLL_SECONDS = 0.05
_FAR = 1 << 30  # Windows also forbids reading a locked byte, so it lies behind the content of a lock file


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl, _msvcrt = _module("fcntl"), _module("msvcrt")


class HeldError(Exception):
    """Another process has the lock; the message says which one, if known."""


class Lock:
    """A lock file that this process holds until `release`, or until it ends."""

    def __init__(self, path: Path, handle: IO[bytes], *, exclusive: bool) -> None:
        self._path, self._handle = path, handle
        self.exclusive = exclusive
        """False where the file system has no locks, so that another process may have this one too."""

    @classmethod
    def take(cls, path: Path, *, wait: bool = False) -> Self:
        """Make the file and lock it. If another process has it, wait for it, or raise HeldError. Raises OSError."""
        while True:
            handle = path.open("a+b")
            try:
                locked = lock(handle, wait=wait)
                if locked is False:
                    raise HeldError(_holder(handle))
                if is_at(handle, path):  # otherwise the other process removed it, and a third may have a new one
                    handle.truncate(0)
                    handle.write(_self_description().encode("utf-8", "backslashreplace"))
                    handle.flush()
                    return cls(path, handle, exclusive=locked is True)
            except BaseException:
                handle.close()
                raise
            handle.close()

    def moved(self, path: Path) -> None:
        """Record that the folder of the file has been renamed."""
        self._path = path

    def release(self, *, remove: bool = True) -> None:
        """Remove the file, unless `remove` is False, and release the lock. Does nothing the second time."""
        if self._handle.closed:
            return
        if remove and _msvcrt is None:  # before another process can lock it
            with suppress(OSError):
                self._path.unlink()
        self._handle.close()
        if remove and _msvcrt is not None:  # Windows cannot remove an open file, ours or that of another process
            with suppress(OSError):
                self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock(handle: IO[bytes], *, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed. True: locked; False: another process has it; None: no locks here."""
    if _fcntl is None and _msvcrt is None:
        return None
    while True:
        try:
            if _fcntl is not None:
                _fcntl.flock(handle, _fcntl.LOCK_EX | (0 if wait else _fcntl.LOCK_NB))
            else:
                handle.seek(_FAR)
                _msvcrt.locking(handle.fileno(), _msvcrt.LK_NBLCK, 1)
                handle.seek(0)
            return True
        except (BlockingIOError, PermissionError):
            if not wait:
                return False
            time.sleep(_POLL_SECONDS)
        except OSError:  # Lustre without the flock option, some network file systems
            return None


def is_at(handle: IO[bytes], path: Path) -> bool:
    """Whether an open file is the one that `path` names."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _self_description() -> str:
    return f"process {os.getpid()} on {socket.gethostname()} ({shortened(typed_command(), 200)})"


def _holder(handle: IO[bytes]) -> str:
    with suppress(OSError):
        handle.seek(0)
        return " ".join(handle.read(1000).decode("utf-8", "replace").split()) or "another process"
    return "another process"
