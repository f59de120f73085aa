"""What is being written for a place, in a hidden folder beside it, until it is whole and takes that place.

.<name>.partial/
  vitsmith.lock  held while its process lives: by it others tell whether anybody still writes here
  new.*          what is being written
  whole          a folder that is complete
  old, target    where two folders cannot swap places in one step: the one that makes room, and the name of the place
  earlier        the name of the place whose folder waits here, while an empty one with STAND_IN stands in for it

A process that is killed leaves this folder. Whoever writes beside it next removes it; when the kill fell between the
two renames of a swap in steps, whoever reads or writes the place next completes the swap first. A folder that still
waits here goes back to its place.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from vitsmith.locks import HeldError, Lock
from vitsmith.swap import exchange

LOCK = "vitsmith.lock"
STAND_IN = ".stand-in"
"""In a folder that has the place of another for a trial."""

_LONGEST = 200  # bytes of a name that fits between '.' and '.partial': file systems take 255 in all
_LOOKED_AT = 3  # workspaces of one place that a reader looks into: more than one only where several write at once
_ATTEMPTS = 20
_PATIENCE = 5.0  # seconds that a reader waits for a swap in steps, which takes far less


class Workspace:
    """The folder of one writer. Raises OSError."""

    def __init__(self, target: Path, folder: Path, lock: Lock) -> None:
        self.target, self.folder, self._lock = target, folder, lock
        suffix = target.suffix if len(target.suffix) < 20 else ""
        self.new = folder / f"new{suffix}"
        """Where to write; some libraries go by the suffix."""

    @classmethod
    def beside(cls, target: Path, *, alone: bool = False) -> Workspace:
        """A new one. With `alone` only one process at a time has it: raises HeldError, whose text says which."""
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
        """Moves what was written to its place."""
        self.new.replace(self.target)

    def put_folder(self) -> None:
        """Moves the folder that was written to its place; what was there comes into the workspace."""
        whole = self.folder / "whole"
        self.new.rename(whole)
        self.swap(whole)

    def swap(self, whole: Path) -> Path | None:
        """Puts the folder `whole` of this workspace in the place. What was there comes into it: where, or None."""
        while True:
            try:
                whole.rename(self.target)  # nothing there, or on POSIX an empty folder
                return None
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EACCES):  # Windows says EACCES
                    raise
                if not self.target.is_dir():
                    raise
            with suppress(FileNotFoundError):  # it has gone meanwhile: try again
                return whole if exchange(whole, self.target) else self._swap_in_steps(whole)

    def _swap_in_steps(self, whole: Path) -> Path:
        """For systems without a swap. Killed anywhere in here, `mend` finds what it needs."""
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
        """An empty folder in the place; what was there waits in the workspace, where: its path, or None.

        Until `keep` it goes back when this process is killed.
        """
        self.new.mkdir()
        (self.new / STAND_IN).touch()
        (self.folder / "earlier").write_bytes(os.fsencode(self.target.name))
        return self.swap(self.new)

    def keep(self) -> None:
        """What stands in for a folder is there to stay."""
        with suppress(OSError):
            (self.target / STAND_IN).unlink()
            (self.folder / "earlier").unlink()

    def remove(self) -> None:
        """Removes the folder with all that is left in it, the lock last. Does nothing the second time."""
        _remove(self.folder, self._lock)


def mend(target: Path) -> None:
    """Completes a swap whose process was killed between its steps; a reader calls it when nothing is at `target`."""
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
    """What a process left that is gone. Nothing is removed when its swap cannot be completed: raises OSError then."""
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
    """The workspace in `folder`, new or left by a process that is gone; None where something else is there.

    Raises HeldError when its process lives.
    """
    for _ in range(_ATTEMPTS):
        try:
            folder.mkdir()
        except FileExistsError:
            if not is_workspace(folder):
                return None
        try:
            lock = Lock.take(folder / LOCK)
        except FileNotFoundError:  # who had it has just removed it
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
    """Whether a folder is one, and not somebody's own: those have other names, or no lock of ours and are not empty."""
    named = folder.name.startswith(".") and folder.name.endswith(".partial")
    return named and folder.is_dir() and ((folder / LOCK).exists() or not any(folder.iterdir()))


def _mend(folder: Path) -> None:
    """With the lock: completes what was begun, so that a whole folder is in the place."""
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
    """A folder whose stand-in was never kept has its place again."""
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
        lock.release(remove=emptied)  # by the lock the next writer knows what to remove
        with suppress(OSError):
            folder.rmdir()


_cleaned: set[tuple[int, Path]] = set()


def clean(folder: Path) -> None:
    """Removes what killed processes left in a folder; looked for once in each process."""
    key = os.getpid(), folder.absolute()
    if key in _cleaned:
        return
    _cleaned.add(key)
    with suppress(OSError), os.scandir(folder) as entries:
        left = [Path(entry) for entry in entries if entry.name.startswith(".") and entry.name.endswith(".partial")]
        for path in left:
            with suppress(OSError, HeldError):  # in use, of another user, or gone
                if (path / LOCK).exists():
                    _mend_and_remove(path, Lock.take(path / LOCK))
                else:
                    path.rmdir()  # where it is empty: whoever has just made it makes it again
