"""Standard input, output and error as a shell may leave them: closed, on a full disk, a pipe that nobody reads.

Results that cannot be written are an error, once: one line, exit code 2. A reader that closes early (`| head`) is no
error: the command ends with code 0. Remarks that cannot be written are dropped, and never stop a run.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from vitsmith.errors import InputError, OutputError

_AS_IN = "vitsmith predict MODEL - < photo.jpg"
_AT_ONCE = 65_536  # bytes: as many as a pipe holds


class ReaderGone(Exception):  # noqa: N818
    """The reader of standard output has closed it."""


def prepare() -> None:
    """Makes the standard streams of this process safe to use. Objects that stand in for them are left as they are."""
    for number in (0, 1, 2):
        _occupy(number)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), "utf-8")
    sys.stdout = _safe(sys.stdout, 1, _Results)
    sys.stderr = _safe(sys.stderr, 2, _Remarks)


def read_standard_input() -> bytes:
    """Reads all of standard input. Raises InputError when it is closed or cannot be read."""
    stream = _opened()
    if stream.isatty():
        print("reading from the terminal: end with Ctrl-D on a line of its own", file=sys.stderr, flush=True)
    with _readable():
        data: bytes = stream.buffer.read()
    return data


def lines_as_they_come(what: str) -> Iterator[list[bytes]]:
    """The lines of standard input, without their ends: those that are there already, then the next ones, and so on.

    A program that writes a line and waits gets its answer. Raises InputError as `read_standard_input`.
    """
    stream = _opened()
    if stream.isatty():
        print(f"reading {what} from the terminal, one a line: end with Ctrl-D", file=sys.stderr, flush=True)
    rest = b""
    while True:
        with _readable():
            data: bytes = stream.buffer.read1(_AT_ONCE)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        if whole := [part for line in lines for part in line.splitlines() or [b""]]:
            yield whole
    if rest:
        yield rest.splitlines()


def _opened() -> Any:
    stream: Any = sys.stdin
    if stream is None or stream.closed:
        raise InputError(f"standard input is closed: give it something to read, as in  {_AS_IN}")
    return stream


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = "is closed" if error.errno == errno.EBADF else f"cannot be read ({error.strerror or error})"
        raise InputError(f"standard input {what}: give it something to read, as in  {_AS_IN}") from error


def finish() -> None:
    """Writes what standard output still holds. Raises OutputError or ReaderGone, as writing does."""
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def is_utf8() -> bool:
    """Whether standard output takes every character."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")


class _Raw(io.RawIOBase):
    """A file descriptor for writing."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def write(self, data: Any) -> int:
        if not self._failed:
            try:
                return self._write(data)
            except OSError as error:
                self._failed = True  # later output is dropped: the error has been reported
                self.fail(error)
        return len(data)

    def fail(self, error: OSError) -> None:
        """Handles an error in writing."""

    def _write(self, data: Any) -> int:
        while True:
            try:
                return os.write(self._number, data)
            except BlockingIOError:  # a pipe that somebody made non-blocking, and that is full
                select.select([], [self._number], [])


class _Results(_Raw):
    def fail(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise ReaderGone from None
        if error.errno == errno.EBADF:
            raise OutputError("standard output is closed, and results are lost: send them to a file or pipe") from None
        raise OutputError(
            f"results could not be written to standard output ({error.strerror}) and are lost: send them to a disk "
            "with free space"
        ) from error


class _Remarks(_Raw):
    pass


def _occupy(number: int) -> None:
    """Keeps the next file that is opened, such as a bundle's, from getting the number of a closed descriptor.

    Reading standard input then, or writing standard output, is an error as on a closed descriptor.
    """
    try:
        os.fstat(number)
    except OSError:
        mode = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}[number]
        with suppress(OSError):  # the lowest that is free, which is this one
            os.open(os.devnull, mode)


def _safe(stream: Any, number: int, kind: type[_Raw]) -> Any:
    if stream is not None and not _is_own(stream, number):
        return stream
    line_buffered = number == 2 or os.isatty(number)
    encoding = "utf-8" if stream is None or not _keeps_encoding(stream) else stream.encoding
    if stream is not None:
        with suppress(OSError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(kind(number)), encoding, errors="backslashreplace", line_buffering=line_buffered
    )


def _is_own(stream: Any, number: int) -> bool:
    """Whether this is what Python itself made of the descriptor, and not what a test or a notebook put there."""
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # with PYTHONUNBUFFERED nothing lies between
    return isinstance(raw, io.FileIO) and not raw.closed and raw.fileno() == number


def _keeps_encoding(stream: Any) -> bool:
    """Results are UTF-8 when redirected, also on Windows, unless the user has said something else."""
    return bool(stream.isatty() or os.environ.get("PYTHONIOENCODING"))
