"""A run: its folder, which one process at a time writes, its command and its log of metrics."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from vitsmith.errors import InputError, OutputError
from vitsmith.escapes import typed_command
from vitsmith.files.atomic import claimed, new_folder, remove_empty, replacing_folder, write_text
from vitsmith.files.failures import explained
from vitsmith.files.locks import Lock
from vitsmith.files.workspace import STAND_IN, Workspace
from vitsmith.json_text import parse_json, to_json, with_nulls
from vitsmith.runs.folder import COMMAND, LOCK, METRICS, NOTHING, holds_anything, locked
from vitsmith.runs.place import check_place, default_place

_BEFORE = NOTHING | {
    "recipe.json",
    "vocabulary.txt",
    "vocabulary.model",
    "baseline.json",
    "tensorboard",
    "split.safetensors",
}
"""Files that are written before the work begins: a run that ends before then is removed."""


class Run:
    """The folder of one run and its log of metrics; only one process at a time writes them.

    The folder is `out`, or a new one: `runs/<verb>/<name>` or, when that exists, `runs/<verb>/<name>-2` and so on. An
    `out` that is not empty is refused; with `force` an earlier run of the same verb is replaced, once this one has
    logged something. Raises OutputError when the place cannot be written.
    """

    _metrics: IO[str] | None = None
    _lock: Lock | None = None
    _fresh = _own_parents = False
    _earlier: tuple[Workspace, Path] | None = None

    def __init__(self, verb: str, name: str, out: Path | None = None, *, force: bool = False) -> None:
        if out is None:
            self.folder = new_folder(default_place(verb, name))
            self._own_parents = True
            self._lock = locked(self.folder)
        else:
            self.folder = out
            with claimed(out):
                check_place(verb, out, force=force)
                if out.is_dir() and holds_anything(out):
                    self._lock = self._take_over()
                else:
                    with explained(out):
                        out.mkdir(parents=True, exist_ok=True)
                    self._lock = locked(out)
        self._fresh = True
        try:
            self._note_command()
        except BaseException as error:  # the caller does not get this run, so __exit__ is not called
            self.__exit__(type(error), error, None)
            raise

    def __repr__(self) -> str:
        return f"<Run {self.folder}>"

    def _take_over(self) -> Lock:
        """Put an empty folder in place of the earlier run, which is kept beside it until this one has begun."""
        locked(self.folder).release()  # no process writes it
        with explained(self.folder):
            workspace = Workspace.beside(self.folder)
            earlier = None
            try:
                earlier = workspace.stand_in()
                if earlier is not None:
                    locked(earlier).release()  # and none has begun to meanwhile
                    self._earlier = workspace, earlier
                else:
                    workspace.keep()
                    workspace.remove()
                return locked(self.folder)
            except BaseException:
                if earlier is not None:
                    workspace.swap(earlier)
                workspace.remove()
                raise

    @classmethod
    def within(cls, folder: Path) -> Self:
        """A run in an existing folder that belongs to this process."""
        run = cls.__new__(cls)
        run.folder = folder
        run._note_command()
        return run

    @classmethod
    def reopen(cls, folder: Path) -> Self:
        """Reopen the run in `folder` to continue it. Raises OutputError if it cannot be, or is being written."""
        run = cls.__new__(cls)
        run.folder = folder
        run._lock = locked(folder)
        with explained(folder):
            (folder / STAND_IN).unlink(missing_ok=True)
        run._note_command()
        return run

    def _note_command(self) -> None:
        command, earlier = self.folder / COMMAND, ""
        with explained(command):
            if command.exists():
                earlier = command.read_text(encoding="utf-8", errors="replace")
        write_text(command, earlier + typed_command() + "\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._metrics is not None:
                self._metrics.close()
            elif self._fresh and error is not None:
                self._vanish()
            self._forget_earlier()
        finally:
            if self._lock is not None:
                self._lock.release()
            if self._fresh and error is not None:
                remove_empty(self.folder, above=2 if self._own_parents else 0)

    def _vanish(self) -> None:
        """Remove a run that ended before its work began, unless a later run can use something in it."""
        with suppress(OSError):
            if {path.name for path in self.folder.iterdir()} <= _BEFORE:
                if self._earlier is not None:
                    if self._lock is not None:
                        self._lock.release()  # before its folder is renamed
                    workspace, earlier = self._earlier
                    workspace.swap(earlier)
                    workspace.remove()
                    self._earlier = None
                    return
                for path in self.folder.iterdir():
                    if path.is_dir():
                        shutil.rmtree(path)
                    elif path.name != LOCK:
                        path.unlink()

    def _forget_earlier(self) -> None:
        """Remove the run that this one replaces."""
        if self._earlier is not None:
            workspace, _ = self._earlier
            workspace.keep()
            workspace.remove()
            self._earlier = None

    def log(self, **values: Any) -> None:
        """Append one line to metrics.jsonl, flushed at once for readers. NaN and infinity become null."""
        try:
            if self._metrics is None:
                self._metrics = (self.folder / METRICS).open("a", encoding="utf-8")
                self._forget_earlier()
            self._metrics.write(to_json(with_nulls(values), ascii_only=True) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder / 'metrics.jsonl'}: {error.strerror or error}; free some space"
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """The rows logged so far; an incomplete last line is skipped."""
        path = self.folder / METRICS
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(InputError):
                rows.append(parse_json(line, "the line", finite=False))
        return rows

    def rewrite_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replace the whole log; later rows are appended."""
        assert self._metrics is None
        text = "".join(to_json(with_nulls(row), ascii_only=True) + "\n" for row in rows)
        write_text(self.folder / METRICS, text)

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON document into the folder. NaN and infinity become null."""
        path = self.folder / name
        write_text(path, to_json(with_nulls(value), indent=2) + "\n")
        return path


@contextmanager
def whole_run(target: Path) -> Iterator[Run]:
    """A run at `target` that is written completely or not at all.

    The old content of `target` is replaced: call `place_of` before the work, which checks that this is allowed.
    """
    with replacing_folder(target) as partial, Run.within(partial) as run:
        yield run
