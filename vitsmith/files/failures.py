"""Turn a failed write into a message of one line: many libraries have their own errors for it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitsmith.errors import OutputError, VitsmithError
from vitsmith.files.locks import HeldError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Error numbers that mean a fault of the disk."""

_NAMES = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL = 2**26  # bytes: with less free space the disk counts as full
_WRITERS = ("iostream error", "inline_container.cc")
"""Errors of OpenVINO's and torch's writers, which give no reason."""


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Turn failed writes into an OutputError that names `target`; other errors pass."""
    try:
        yield
    except (VitsmithError, HeldError):
        raise
    except Exception as error:
        reason = why_not_written(error, target.parent)
        if not reason:
            raise
        full = any(reason.startswith(os.strerror(number)) for number in _SPACE)
        advice = "free some space, or choose another place" if full else "choose another place"
        raise OutputError(f"cannot write {target}: {reason}; {advice}") from error


def why_not_written(error: Exception, place: Path) -> str:
    """The reason why a write into a folder failed, in a few words; '' for other errors."""
    if isinstance(error, ConnectionError | TimeoutError):
        return ""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "a file is where a folder should be"
    if isinstance(error, OSError) and error.strerror:
        about = written_to(error)
        return error.strerror + (f": {about}" if about and not is_within(about, place) else "")
    text = " ".join(str(error).split())
    if said := _disk_error(error, text):
        return said
    if isinstance(error, OSError) and "requested and" in text:  # NumPy's message for an incomplete write
        return _no_space(place, text) or f"only a part of it could be written ({text})"
    foreign = type(error).__name__ == "SafetensorError" or any(word in text for word in _WRITERS)
    if isinstance(error, OSError) or foreign:
        return _no_space(place, text) or text[:300] or type(error).__name__
    return _no_space(place, text)


def why_unusable(error: OSError) -> str:
    """A message for an unexpected error of a file: permissions, name or disk; '' for other errors."""
    if error.errno not in (*DISK, *_NAMES) or isinstance(error.filename, int):
        return ""
    where = os.fsdecode(error.filename) if error.filename else "a file"
    return f"cannot use {where}: {error.strerror}; check the path, its permissions, and the free space"


def written_to(error: OSError) -> Any:
    """The file that an error is about; when copying fails, the file that was being written."""
    return error.filename2 if error.errno in _SPACE and error.filename2 else error.filename


def is_within(path: str | bytes | os.PathLike[str] | int, place: Path) -> bool:
    """Whether a path, or the value that an OSError has as its file name, lies in a folder."""
    return not isinstance(path, int) and Path(os.fsdecode(path)).absolute().is_relative_to(place.absolute())


def _disk_error(error: Exception, text: str) -> str:
    """The system's message about the disk, from the text of a library's error or of an earlier error."""
    said = next((os.strerror(number) for number in DISK if os.strerror(number).lower() in text.lower()), "")
    before: BaseException | None = error
    while not said and before is not None:  # zipfile fails again when it closes the file
        if isinstance(before, OSError) and before.errno in DISK:
            said = os.strerror(before.errno)
        before = before.__cause__ or before.__context__
    return said


def _no_space(place: Path, text: str) -> str:
    absolute = place.absolute()
    with suppress(OSError):
        there = next(one for one in (absolute, *absolute.parents) if one.exists())
        if shutil.disk_usage(there).free < _FULL:
            return f"{os.strerror(errno.ENOSPC)} ({text[:200]})"
    return ""
