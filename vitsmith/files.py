"""Writing so that nothing half-written is ever seen: into a workspace beside the place first, then one rename.

Everything that is written follows the umask, whoever wrote it: safetensors makes its files 0600, tempfile its folders
0700. A write that fails is an OutputError of one line, whichever library failed to write.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from vitsmith.errors import OutputError, VitsmithError
from vitsmith.escapes import visible
from vitsmith.failed_writes import DISK, explained, is_within, why_not_written, written_to
from vitsmith.locks import HeldError
from vitsmith.regular_files import why_not_regular
from vitsmith.workspace import Workspace, clean

PathLike = str | os.PathLike[str]

LONGEST_NAME = 255
"""Bytes of one name, as nearly every file system has it."""

_ATTEMPTS = 20
_WINDOWS = os.name == "nt"
_scratch: list[Path] = []


@contextmanager
def replacing(path: PathLike, *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary file to write; on success it takes the place of `path`, else it vanishes.

    `durable`: it is on the disk itself before it takes that place, so that a power cut leaves the old or the new one.
    Raises OutputError.
    """
    target = _target(path)
    with explained(target), ExitStack() as stack:
        workspace = _workspace(target, stack)
        mode = _new_file(workspace.new)
        yield workspace.new
        _open_up(workspace.new, mode)
        _flush(workspace.new, target, durable=durable)
        workspace.put_file()
        _flush_folder(target, durable=durable)


@contextmanager
def replacing_folder(path: PathLike, *, durable: bool = True) -> Iterator[Path]:
    """Gives a temporary folder to fill; on success it takes the place of `path`, else it vanishes.

    An existing folder at `path` is replaced only once the new one is complete. `durable` as in `replacing`.
    """
    target = _target(path)
    check_not_around(target)
    with explained(target), ExitStack() as stack:
        if target.exists() and not target.is_dir():
            raise OutputError(f"{target} is a file; choose another output folder")
        workspace = _workspace(target, stack)
        workspace.new.mkdir()
        mode = stat.S_IMODE(workspace.new.stat().st_mode)
        try:
            yield workspace.new
        except OutputError as error:  # of a file in it: named as the user knows it
            raise OutputError(str(error).replace(str(workspace.new), str(target))) from error
        for place, folders, names in os.walk(workspace.new):
            for name in folders:
                _open_up(Path(place, name), mode)
            for name in names:
                _open_up(Path(place, name), mode & 0o666)
                _flush(Path(place, name), target, durable=durable)
            _flush(Path(place), target, durable=durable)
        workspace.put_folder()
        _flush_folder(target, durable=durable)


@contextmanager
def claimed(path: PathLike) -> Iterator[None]:
    """Keeps a place for this process while it works out what comes there: no other process may claim it meanwhile.

    Raises OutputError, which says who has it, and when nothing could be written there. Folders above it that are made
    for it vanish again while they stay empty.
    """
    target = _target(path)
    check_not_around(target)
    with ExitStack() as stack:
        with explained(target):
            try:
                _workspace(target, stack, alone=True)
            except HeldError as held:
                raise OutputError(
                    f"{target} is being written by {held}: wait until it is done, or choose another place"
                ) from None
        yield


def check_writable(path: PathLike) -> None:
    """Raises OutputError, before any work is done, when `path` could not be written. Leaves nothing behind.

    What killed processes left beside it is removed, also where nothing is written in the end: all may be done already.
    """
    target = _target(path)
    clean(target.parent)
    with explained(target):
        place = next(parent for parent in (*target.absolute().parents, Path(target.anchor)) if parent.exists())
        with tempfile.TemporaryFile(dir=place):
            pass


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """A folder for temporary files, where the system keeps those; it vanishes. `what` it is for stands in its name.

    Raises OutputError, which speaks of TMPDIR, when there is none or it is full.
    """
    try:
        made = tempfile.mkdtemp(prefix=f"vitsmith-{what}-")
    except OSError as error:
        raise OutputError(
            f"no folder for temporary files can be made ({error.strerror or error}): set TMPDIR to a folder that can "
            "be written"
        ) from error
    place = Path(made)
    _scratch.append(place)
    try:
        yield place
    except OutputError as error:
        if str(place) in str(error) and "TMPDIR" not in str(error):
            raise OutputError(f"{error}; temporary files go to another folder when TMPDIR is set to it") from error
        raise
    except VitsmithError:
        raise
    except Exception as error:
        foreign = isinstance(error, OSError) and not _concerns(error, place)
        reason = "" if foreign else why_not_written(error, place)
        if not reason:
            raise
        raise OutputError(
            f"cannot write temporary files in {place}: {reason}; free some space, or set TMPDIR to another folder"
        ) from error
    finally:
        _scratch.remove(place)
        shutil.rmtree(place, ignore_errors=True)


@contextmanager
def optional(what: str) -> Iterator[None]:
    """For what comes beside a result that is on the disk already: its failure is one remark on standard error."""
    try:
        yield
    except Exception as error:  # whatever a library that draws throws
        reason = visible(" ".join(str(error).split()))[:300] or type(error).__name__
        with suppress(Exception):
            if sys.stderr is not None:
                print(f"{what} could not be made ({reason}); everything else is written", file=sys.stderr, flush=True)


def write_text(path: PathLike, text: str, *, durable: bool = True) -> None:
    """Writes a whole text file, or leaves what was there.

    UTF-8, whatever the system's own is; of names that are not UTF-8 the bytes are escaped, as JSON does it.
    """
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))


def new_folder(path: PathLike) -> Path:
    """Makes `path`, or `path-2`, `path-3` ... when that exists: never a folder that another process made, too.

    Raises OutputError.
    """
    wanted = _target(path)
    with explained(wanted):
        number, gone = 1, 0
        while True:
            candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            try:
                candidate.parent.mkdir(parents=True, exist_ok=True)
                candidate.mkdir()
                return candidate
            except FileExistsError:
                if not (candidate.parent.is_dir() and os.path.lexists(candidate)):
                    raise  # a file where a folder above it should be
                number += 1
            except FileNotFoundError:  # another process has removed an empty folder above it
                gone += 1
                if gone == _ATTEMPTS:
                    raise


def remove_empty(folder: Path, *, above: int = 0) -> None:
    """Removes a folder and so many above it, as long as they are empty."""
    with suppress(OSError):  # the first that is not
        for empty in (folder, *folder.parents[:above]):
            empty.rmdir()


def sha256(path: PathLike) -> str:
    """Hexadecimal hash of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flush(path: PathLike) -> None:
    """Brings a file, or the names in a folder, onto the disk itself. Windows flushes no folders. Raises OSError."""
    if _WINDOWS and Path(path).is_dir():
        return
    handle = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):  # a file system without it
            raise
    finally:
        os.close(handle)


def _target(path: PathLike) -> Path:
    """The place itself, where links lead. Raises OutputError for names that no file can have, pipes and devices."""
    text = os.fspath(path)
    if "\0" in text:
        raise OutputError(f"{text!r} has a zero byte, which no name can have: choose another place")
    target = Path(text)
    for part in target.parts:
        if (size := len(os.fsencode(part))) > LONGEST_NAME:
            raise OutputError(
                f"cannot write {part[:40]}...: this name has {size} bytes, and a name can have {LONGEST_NAME}; "
                "choose a shorter one"
            )
    with explained(target):
        if target.is_symlink():
            target = Path(os.path.realpath(target))
            if target.is_symlink():
                raise OutputError(f"cannot write {path}: it is a link that leads in circles; choose another place")
        told = why_not_regular(target)
        if told and not target.is_dir():
            raise OutputError(f"cannot write {target}: {told}; choose another place")
    return target


def check_not_around(target: Path) -> None:
    """Raises OutputError for the folder that this process is in: one that is replaced takes along who is in it."""
    with suppress(OSError):  # a working folder that has gone
        if Path.cwd().is_relative_to(os.path.realpath(target)):
            raise OutputError(f"{target} is the folder that you are in, or one above it: choose another place")


def _workspace(target: Path, stack: ExitStack, *, alone: bool = False) -> Workspace:
    """One beside `target` until `stack` ends. Folders above it that are made for it vanish then if they are empty."""
    for parent in reversed(target.absolute().parents):  # what is called back last goes first
        if not parent.exists():
            stack.callback(remove_empty, parent)
    for attempt in range(_ATTEMPTS):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            workspace = Workspace.beside(target, alone=alone)
            break
        except FileNotFoundError:  # another process has removed an empty folder above it
            if attempt == _ATTEMPTS - 1:  # or nothing can be made there, as in /proc
                raise
    stack.callback(workspace.remove)
    return workspace


def _new_file(path: Path) -> int:
    """Makes an empty file; the mode that the umask gives it, or a folder's rules for access."""
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return stat.S_IMODE(os.fstat(handle).st_mode)
    finally:
        os.close(handle)


def _open_up(path: Path, mode: int) -> None:
    if not path.is_symlink() and stat.S_IMODE(path.stat().st_mode) != mode:
        path.chmod(mode)


def _flush(path: Path, target: Path, *, durable: bool) -> None:
    if durable and not any(is_within(target, place) for place in _scratch) and not path.is_symlink():
        flush(path)


def _flush_folder(target: Path, *, durable: bool) -> None:
    """The new name of `target`, after the rename: where that fails it is there all the same."""
    with suppress(OSError):
        _flush(target.parent, target, durable=durable)


def _concerns(error: OSError, place: Path) -> bool:
    """Whether an error is about a file in a folder; where it does not say about which, whether the disk is at fault."""
    about = written_to(error)
    return is_within(about, place) if about else error.errno in DISK
