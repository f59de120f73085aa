"""A workspace: a hidden folder beside a place, where its new content is written before it replaces the old.

.<name>.partial/
  vitsmith.lock  locked while its process lives, so that others know whether it still writes here
  new.*          the content that is being written
  whole          a complete folder
  old, target    when a swap takes several steps: the folder that was replaced, and the name of the place
  earlier        the name of the place whose old folder is here, while an empty one with STAND_IN replaces it

A killed process leaves this folder; the next process that writes beside it removes it. If it was killed between the two
renames of a swap in steps, the next process that reads or writes the place completes the swap first. An old folder that
is still here goes back to its place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from vitsmith.files.locks import HeldError, Lock
from vitsmith.files.swap import exchange

LOCK = "vitsmith.lock"
STAND_IN = ".stand-in"
"""The file in a folder that replaces another on trial."""

_LONGEST = 200  # bytes of a name between '.' and '.partial': file systems allow 255 in all
_LOOKED_AT = 3  # workspaces of one place that a reader checks; there are several only where several processes write
_ATTEMPTS = 20
_PATIENCE = 5.0  # seconds that a reader waits for a swap in steps, which takes much less


class Workspace:
    """The workspace of one writer. Raises OSError."""

    def __init__(self, target: Path, folder: Path, lock: Lock) -> None:
        self.target, self.folder, self._lock = target, folder, lock
        suffix = target.suffix if len(target.suffix) < 20 else ""
        self.new = folder / f"new{suffix}"
        """The path to write to; its suffix is kept because some libraries need it."""
        self.exclusive = lock.exclusive
        """Whether no other process can have this workspace too: False where the file system has no locks."""

    @classmethod
    def beside(cls, target: Path, *, alone: bool = False) -> Workspace:
        """Make a workspace. With `alone` only one process has one: raises HeldError, which names the other process."""
        clean(target.parent)
        number = 1
        while True:
            try:
                if (made := _enter(target, _folder(target, number))) is not None:
                    return made
            except HeldError:
                if alone:
                    raise
            number += 1

    def put_file(self) -> None:
        """Move the written file to its place."""
        self.new.replace(self.target)

    def put_folder(self) -> None:
        """Move the written folder to its place; the old folder moves into the workspace."""
        whole = self.folder / "whole"
        self.new.rename(whole)
        self.swap(whole)

    def swap(self, whole: Path) -> Path | None:
        """Put the folder `whole` of this workspace in its place. Returns the new path of the old folder, or None."""
        while True:
            try:
                whole.rename(self.target)  # works if the place is free, or on POSIX an empty folder
                return None
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):  # Windows says EACCES
                    raise
                if not self.target.is_dir():
                    raise
            with suppress(FileNotFoundError):  # it was removed meanwhile: try again
                return whole if exchange(whole, self.target) else self._swap_in_steps(whole)

    def _swap_in_steps(self, whole: Path) -> Path:
        """Swap by two renames, where the system cannot swap. `mend` completes it if the process is killed between."""
        note, old = self.folder / "target", self.folder / "old"
        note.write_bytes(os.fsencode(self.target.name))
        self.target.rename(old)
        try:
            whole.rename(self.target)
        except BaseException:
            old.rename(self.target)
            raise
        finally:
            note.unlink()
        return old

    def stand_in(self) -> Path | None:
        """Put an empty folder in the place. Returns the path of the old folder in the workspace, or None.

        If this process is killed before `keep`, the old folder goes back.
        """
        self.new.mkdir()
        (self.new / STAND_IN).touch()
        (self.folder / "earlier").write_bytes(os.fsencode(self.target.name))
        return self.swap(self.new)

    def keep(self) -> None:
        """Make the replacement by `stand_in` final."""
        with suppress(OSError):
            (self.target / STAND_IN).unlink()
            (self.folder / "earlier").unlink()

    def remove(self) -> None:
        """Remove the workspace with all its content, the lock last. Does nothing the second time."""
        _remove(self.folder, self._lock)


def mend(target: Path) -> None:
    """Complete a swap whose process was killed between its steps; a reader calls it when `target` is missing."""
    deadline = time.monotonic() + _PATIENCE
    for number in range(1, _LOOKED_AT + 1):
        folder = _folder(target, number)
        with suppress(OSError, ValueError):
            while (folder / "target").exists() and not target.exists():
                try:
                    lock = Lock.take(folder / LOCK)
                except HeldError:
                    if time.monotonic() > deadline:
                        return
                    time.sleep(0.01)
                    continue
                _mend_and_remove(folder, lock)


def _mend_and_remove(folder: Path, lock: Lock) -> None:
    """Complete the swap of a dead process and remove its workspace. If it fails: raises OSError, removes nothing."""
    try:
        _mend(folder)
    except BaseException:
        lock.release(remove=False)
        raise
    _remove(folder, lock)


def _folder(target: Path, number: int) -> Path:
    name = target.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:24]
    return target.with_name(f".{name}.partial" if number == 1 else f".{name}.{number}.partial")


def _enter(target: Path, folder: Path) -> Workspace | None:
    """The workspace in `folder`, new or left by a dead process; None where `folder` is something else.

    Raises HeldError when its process still lives.
    """
    for _ in range(_ATTEMPTS):
        try:
            folder.mkdir()
        except FileExistsError:
            if not is_workspace(folder):
                return None
        try:
            lock = Lock.take(folder / LOCK)
        except FileNotFoundError:  # another process has just removed it
            if not folder.parent.is_dir():
                raise
            continue
        try:
            _mend(folder)
            _empty(folder)
        except BaseException:
            lock.release(remove=False)
            raise
        return Workspace(target, folder, lock)
    return None


def is_workspace(folder: Path) -> bool:
    """Whether a folder is a workspace: it has such a name, and either our lock or no content."""
    named = folder.name.startswith(".") and folder.name.endswith(".partial")
    return named and folder.is_dir() and ((folder / LOCK).exists() or not any(folder.iterdir()))


def _mend(folder: Path) -> None:
    """Complete a swap that was begun, so that a whole folder is in the place. The caller has the lock."""
    _put_back(folder)
    note = folder / "target"
    if not note.exists():
        return
    target = folder.with_name(os.fsdecode(note.read_bytes()))
    if target.name and not target.exists():
        for kept in (folder / "whole", folder / "old"):
            if kept.exists():
                kept.rename(target)
                break
    note.unlink()


def _put_back(folder: Path) -> None:
    """Put a folder back in its place when its replacement was never made final."""
    note = folder / "earlier"
    if not note.exists():
        return
    target = folder.with_name(os.fsdecode(note.read_bytes()))
    waiting = [path for path in folder.iterdir() if path.is_dir() and not (path / STAND_IN).exists()]
    if waiting and target.name:
        if (target / STAND_IN).exists():
            target.rename(folder / "stand-in")
        if not target.exists():
            waiting[0].rename(target)
    note.unlink()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.name == LOCK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _remove(folder: Path, lock: Lock) -> None:
    emptied = False
    try:
        with suppress(OSError):
            _empty(folder)
            emptied = True
    finally:
        lock.release(remove=emptied)  # if not empty, the lock tells the next writer to remove it
        with suppress(OSError):
            folder.rmdir()


_cleaned: set[tuple[int, Path]] = set()


def clean(folder: Path) -> None:
    """Remove the workspaces that killed processes left in a folder, once in each process."""
    key = os.getpid(), folder.absolute()
    if key in _cleaned:
        return
    _cleaned.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry) for entry in entries if entry.name.startswith(".") and entry.name.endswith(".partial")]
        for path in left:
            with suppress(OSError, HeldError):  # in use, owned by another user, or already removed
                if (path / LOCK).exists():
                    _mend_and_remove(path, Lock.take(path / LOCK))
                else:
                    path.rmdir()  # if empty: a process that has just made it makes it again
