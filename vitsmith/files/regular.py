"""Open files that a user names: only regular files, so that a pipe cannot block and a device is not read forever."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

PathLike = str | bytes | os.PathLike[str]

_MORE = 1 << 20  # bytes
_KINDS = {
    stat.S_IFDIR: "it is a folder",
    stat.S_IFIFO: "it is a named pipe (FIFO), not a file",
    stat.S_IFSOCK: "it is a socket, not a file",
    stat.S_IFCHR: "it is a device, not a file",
    stat.S_IFBLK: "it is a device, not a file",
}


class NotRegularError(OSError):
    """A path that is not a regular file; `strerror` says what it is, as for any OSError."""


def open_regular(path: PathLike) -> BinaryIO:
    """Open a regular file for reading. Links are followed.

    Raises OSError, whose `strerror` gives the reason: NotRegularError for a folder, pipe, socket or device, which never
    block; also for names that no file can have, and for broken links.
    """
    try:
        # A pipe without a writer would block without O_NONBLOCK, which Windows does not have. Windows needs O_BINARY.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise NotRegularError(errno.EINVAL, f"no file has such a name ({error})", os.fsdecode(path)) from error
    except OSError as error:
        if told := why_not_regular(path):
            raise NotRegularError(error.errno, told, os.fsdecode(path)) from error  # a socket, or a broken link
        raise
    try:
        if told := _KINDS.get(stat.S_IFMT(os.fstat(handle).st_mode), ""):
            raise NotRegularError(errno.EINVAL, told, os.fsdecode(path))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


@contextmanager
def utf8_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path of an existing file for libraries that only take UTF-8; it is valid inside the context.

    Only Linux has other names, and there an open file or folder also has a name in /proc. Where the file's own name is
    UTF-8, only its folder is replaced, so that files beside it are found too.
    """
    name = os.fspath(path)
    if _is_utf8(name):
        yield name
    elif _is_utf8(last := os.path.basename(name)):  # noqa: PTH119
        folder = os.open(os.path.dirname(name) or ".", os.O_RDONLY)  # noqa: PTH120
        try:
            yield f"/proc/self/fd/{folder}/{last}"
        finally:
            os.close(folder)
    else:
        with open_regular(name) as file:
            yield f"/proc/self/fd/{file.fileno()}"


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def why_not_regular(path: PathLike) -> str:
    """A message for a path that is not a regular file, as 'it is a folder'; '' for a regular or missing file."""
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(path).st_mode), "")  # noqa: PTH116 - bytes may name files too
    except FileNotFoundError:
        return "it is a link to a file that does not exist" if os.path.islink(path) else ""  # noqa: PTH114
    except (OSError, ValueError):
        return ""


def read_regular(path: PathLike, *, largest: int) -> bytes:
    """The bytes of a regular file of at most `largest`. Raises OSError as `open_regular`, and with EFBIG for more."""
    return read_with_state(path, largest=largest)[0]


def read_with_state(path: PathLike, *, largest: int) -> tuple[bytes, os.stat_result]:
    """The bytes of `read_regular`, and the state of that file just before they were read. Raises OSError as it does."""
    with open_regular(path) as file:
        state = os.fstat(file.fileno())
        size = state.st_size
        # Python allocates as much memory as it is asked to read, so ask for the size of the file only; a file of /proc
        # gives size 0, but has more.
        data = file.read(size + 1) if size <= largest else b""
        while size < len(data) <= largest and (more := file.read(min(_MORE, largest + 1 - len(data)))):
            data += more
        if size > largest or len(data) > largest:
            told = f"it has {max(size, len(data)):,} bytes, over the limit of {largest:,}"
            raise NotRegularError(errno.EFBIG, told, os.fsdecode(path))
        return data, state
