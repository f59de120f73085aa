"""A write that fails is one line, whichever library was writing: many have errors of their own for it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vitsmith.errors import OutputError, VitsmithError
from vitsmith.locks import HeldError

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
"""Errors that are a disk's fault, whatever was being done."""

_NAMES = (errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR)
_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL = 2**26  # bytes: less is as good as nothing
_WRITERS = ("iostream error", "inline_container.cc")
"""How OpenVINO's and torch's writers fail, without a reason."""


@contextmanager
def explained(target: Path) -> Iterator[None]:
    """Failed writes become an OutputError that names `target`; errors of other kinds pass."""
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
    """Why a write into a folder failed, in a few words; '' for errors of another kind."""
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
    if isinstance(error, OSError) and "requested and" in text:  # NumPy, of a write that was cut short
        return _no_space(place, text) or f"only a part of it could be written ({text})"
    foreign = type(error).__name__ == "SafetensorError" or any(word in text for word in _WRITERS)
    if isinstance(error, OSError) or foreign:
        return _no_space(place, text) or text[:300] or type(error).__name__
    return _no_space(place, text)


def why_unusable(error: OSError) -> str:
    """What is wrong with a file that nobody expected trouble of, its permissions, name or disk; '' for other errors."""
    if error.errno not in (*DISK, *_NAMES) or isinstance(error.filename, int):
        return ""
    where = os.fsdecode(error.filename) if error.filename else "a file"
    return f"cannot use {where}: {error.strerror}; check the path, its permissions, and the space that is left"


def written_to(error: OSError) -> Any:
    """The file that an error is about; when a copy finds a full disk, the copy's and not the original's."""
    return error.filename2 if error.errno in _SPACE and error.filename2 else error.filename


def is_within(path: str | bytes | os.PathLike[str] | int, place: Path) -> bool:
    """Whether a path, or what an OSError has in its place, is of a file in a folder."""
    return not isinstance(path, int) and Path(os.fsdecode(path)).absolute().is_relative_to(place.absolute())


def _disk_error(error: Exception, text: str) -> str:
    """What the system said of the disk, in the text of a library's error, or in an error before it."""
    said = next((os.strerror(number) for number in DISK if os.strerror(number).lower() in text.lower()), "")
    before: BaseException | None = error
    while not said and before is not None:  # zipfile fails once more on its way out
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
