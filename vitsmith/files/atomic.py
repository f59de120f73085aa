"""Write files so that no half-written file is ever seen: first into a workspace beside the place, then one rename.

All files follow the umask, whichever library wrote them: safetensors makes its files 0600, tempfile its folders 0700. A
failed write is an OutputError of one line, whichever library failed.
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
from vitsmith.files.failures import DISK, explained, is_within, why_not_written, written_to
from vitsmith.files.locks import HeldError
from vitsmith.files.regular import why_not_regular
from vitsmith.files.workspace import Workspace, clean

PathLike = str | os.PathLike[str]

LONGEST_NAME = 255
"""Longest name of a file, in bytes, on nearly every file system."""

_ATTEMPTS = 20
_WINDOWS = os.name == "nt"
_scratch: list[Path] = []


@contextmanager
def replacing(path: PathLike, *, durable: bool = True) -> Iterator[Path]:
    """Provide a temporary file to write; on success it replaces `path`, otherwise it is removed.

    `durable`: it is flushed to the disk before it replaces the old file, so that a power cut leaves one of the two
    whole. Raises OutputError.
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
    """Provide a temporary folder to fill; on success it replaces `path`, otherwise it is removed.

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
        except OutputError as error:  # about a file inside: use the name that the user knows
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
def claimed(path: PathLike) -> Iterator[bool]:
    """Reserve a place for this process while it works: no other process can claim it meanwhile.

    Gives True; False where the file system has no locks, and another process may claim it too.

    Raises OutputError when the place cannot be written, or another process has it, which the message and the cause, a
    HeldError, name. Folders that are made above it are removed at the end if they are empty.
    """
    target = _target(path)
    check_not_around(target)
    with ExitStack() as stack:
        with explained(target):
            try:
                workspace = _workspace(target, stack, alone=True)
            except HeldError as held:
                raise OutputError(
                    f"{target} is being written by {held}: wait until it is done, or choose another place"
                ) from held
        yield workspace.exclusive


def check_writable(path: PathLike) -> None:
    """Raise OutputError, before any work is done, when `path` cannot be written. Leaves nothing behind.

    Files that killed processes left beside it are removed, even when nothing is written in the end.
    """
    target = _target(path)
    clean(target.parent)
    with explained(target):
        place = next(parent for parent in (*target.absolute().parents, Path(target.anchor)) if parent.exists())
        with tempfile.TemporaryFile(dir=place):
            pass


@contextmanager
def scratch(what: str) -> Iterator[Path]:
    """Provide a temporary folder in the system's usual place and remove it at the end. `what` becomes part of its name.

    Raises OutputError, which mentions TMPDIR, when it cannot be made or the disk is full.
    """
    try:
        made = tempfile.mkdtemp(prefix=f"vitsmith-{what}-")
    except OSError as error:
        raise OutputError(
            f"cannot make a folder for temporary files ({error.strerror or error}): set TMPDIR to a writable folder"
        ) from error
    place = Path(made)
    _scratch.append(place)
    try:
        yield place
    except OutputError as error:
        if str(place) in str(error) and "TMPDIR" not in str(error):
            raise OutputError(f"{error}; to use another folder for temporary files, set TMPDIR to it") from error
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
    """Run optional work after the result is written: its failure is only a remark on standard error."""
    try:
        yield
    except Exception as error:  # plotting libraries may raise anything
        reason = visible(" ".join(str(error).split()))[:300] or type(error).__name__
        with suppress(Exception):
            if sys.stderr is not None:
                print(f"{what} could not be made ({reason}); everything else is written", file=sys.stderr, flush=True)


def write_text(path: PathLike, text: str, *, durable: bool = True) -> None:
    """Write a complete text file, or leave the old one.

    The encoding is always UTF-8; bytes of names that are not UTF-8 are escaped, as in JSON.
    """
    with replacing(path, durable=durable) as partial:
        partial.write_bytes(text.encode("utf-8", "backslashreplace"))


def new_folder(path: PathLike) -> Path:
    """Make `path`, or `path-2`, `path-3` ... when it exists; never a folder that another process makes too.

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
                    raise  # a file is where a folder above it should be
                number += 1
            except FileNotFoundError:  # another process has removed an empty folder above it
                gone += 1
                if gone == _ATTEMPTS:
                    raise


def remove_empty(folder: Path, *, above: int = 0) -> None:
    """Remove a folder and up to `above` folders above it, as long as they are empty."""
    with suppress(OSError):  # at the first that is not empty
        for empty in (folder, *folder.parents[:above]):
            empty.rmdir()


def sha256(path: PathLike) -> str:
    """Hexadecimal hash of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flush(path: PathLike) -> None:
    """Flush a file, or the names in a folder, to the disk. Windows does not flush folders. Raises OSError."""
    if _WINDOWS and Path(path).is_dir():
        return
    handle = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP):  # a file system that cannot flush
            raise
    finally:
        os.close(handle)


def _target(path: PathLike) -> Path:
    """The place that links lead to. Raises OutputError for names that no file can have, pipes and devices."""
    text = os.fspath(path)
    if "\0" in text:
        raise OutputError(f"{text!r} has a zero byte, which is not allowed in names: choose another place")
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
                raise OutputError(f"cannot write {path}: it is a link that leads to itself; choose another place")
        told = why_not_regular(target)
        if told and not target.is_dir():
            raise OutputError(f"cannot write {target}: {told}; choose another place")
    return target


def check_not_around(target: Path) -> None:
    """Raise OutputError when `target` is the working folder or above it: replacing would remove the working folder."""
    with suppress(OSError):  # the working folder does not exist any more
        if Path.cwd().is_relative_to(os.path.realpath(target)):
            raise OutputError(f"{target} is the folder that you are in, or one above it: choose another place")


def _workspace(target: Path, stack: ExitStack, *, alone: bool = False) -> Workspace:
    """Make a workspace beside `target` until `stack` ends; new folders above it are then removed if they are empty."""
    for parent in reversed(target.absolute().parents):  # the last callback runs first
        if not parent.exists():
            stack.callback(remove_empty, parent)
    for attempt in range(_ATTEMPTS):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            workspace = Workspace.beside(target, alone=alone)
            break
        except FileNotFoundError:  # another process has removed an empty folder above it
            if attempt == _ATTEMPTS - 1:  # perhaps nothing can be made there, as in /proc
                raise
    stack.callback(workspace.remove)
    return workspace


def _new_file(path: Path) -> int:
    """Make an empty file and return its mode, which the umask or the folder's access rules decide."""
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
    """Flush the new name of `target`, after the rename; if this fails, the file is there nevertheless."""
    with suppress(OSError):
        _flush(target.parent, target, durable=durable)


def _concerns(error: OSError, place: Path) -> bool:
    """Whether an error is about a file in a folder; if it names no file, whether it is a fault of the disk."""
    about = written_to(error)
    return is_within(about, place) if about else error.errno in DISK
