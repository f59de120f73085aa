"""The output folder of a verb: `runs/<verb>/<name>`, numbered when it exists, or `--out`; the same rule for all verbs.

An `--out` that is not empty is refused before any work. `--force` replaces only earlier output of the same verb, which
a file of that verb shows.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar

from vitsmith.errors import InputError, OutputError
from vitsmith.escapes import shell_quoted, typed_command
from vitsmith.files.atomic import (
    check_not_around,
    check_writable,
    claimed,
    new_folder,
    remove_empty,
    replacing_folder,
    write_text,
)
from vitsmith.files.failures import explained
from vitsmith.files.locks import HeldError, Lock
from vitsmith.files.workspace import STAND_IN, Workspace, is_workspace
from vitsmith.json_text import json_or_none, parse_json, to_json, with_nulls

COMMAND, METRICS, LOCK = "command.txt", "metrics.jsonl", ".lock"

MARKS = {
    "quickstart": "results.json",
    "train": "recipe.json",
    "distill": "recipe.json",
    "lit": "recipe.json",
    "evaluate": "scores.json",
    "benchmark": "benchmark.json",
    "quantize": "quantize.json",
    "merge-tokens": "merge.json",
    "prune": "prune.json",
    "compress": "compress.json",
}
"""For each verb, the file by which its runs are recognised."""

_NOTHING = {COMMAND, LOCK, STAND_IN}
_BEFORE = _NOTHING | {
    "recipe.json",
    "vocabulary.txt",
    "vocabulary.model",
    "baseline.json",
    "tensorboard",
    "split.safetensors",
}
"""Files that are written before the work begins: a run that ends before then is removed."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST = 120

IsEarlier = Callable[[Path], bool]
Made = TypeVar("Made")


def model_name(model: str) -> str:
    """The name of a run from its model: 'pets' for runs/train/pets/model or a file in it, 'B_16' for B_16.npz."""
    path = Path(model)
    if path.name.startswith("model."):
        above = (path.parent, *path.parents[2:3])  # of the usual program, of one in programs/NAME
        path = next((place for place in above if (place / "bundle.json").is_file()), path)
    elif path.parent.name == "programs" and (path.parent.parent / "bundle.json").is_file():
        path = path.parent.parent
    return path.resolve().parent.name if path.name in ("model", ".", "") else path.stem


def default_place(verb: str, name: str) -> Path:
    """`runs/<verb>/<name>`, with a name that every file system allows: Windows forbids ':', 'NUL' and a final dot.

    Without a name it is `runs/<verb>`.
    """
    if not name:
        return Path("runs") / verb
    clean = re.sub(r'[\x00-\x1f<>:"/\\|?*]', "_", name).strip().rstrip(". ") or "run"
    while len(clean.encode("utf-8", "surrogateescape")) > _LONGEST:
        clean = clean[:-1]
    return Path("runs") / verb / (f"_{clean}" if _RESERVED.match(clean) else clean)


def check_place(verb: str, out: Path | None, *, force: bool, is_earlier: IsEarlier | None = None) -> None:
    """Raise OutputError, before any work, when a verb cannot write to `out`, or would replace something.

    With `force`, only earlier output of the same verb may be replaced: `is_earlier` recognises it; by default it is a
    folder with the verb's own file (MARKS).
    """
    if out is None:
        return
    check_not_around(out)
    check_writable(out)
    is_earlier = is_earlier or (lambda place: is_run_of(verb, place))
    with explained(out):
        if not out.is_file():
            if (out / LOCK).exists():
                _locked(out).release(remove=False)  # the error names the process that writes it
            if not (out.is_dir() and _holds_anything(out)):
                return
        if not is_earlier(out):
            what = "file" if out.is_file() else "folder"
            raise OutputError(f"{out} exists, a {what} that {verb} did not write: choose another `out`")
        if not force:
            if MARKS.get(verb) == "recipe.json" and any((out / "checkpoints").glob("step-*")):
                again = f"vitsmith {'lit' if verb == 'lit' else 'train'} --resume {shell_quoted(str(out))}"
                raise OutputError(
                    f"{out} is an unfinished run: resume it with  {again} , choose another `out`, or replace it "
                    "with `force`"
                )
            raise OutputError(f"{out} exists: choose another `out`, or replace it with `force`")


def _holds_anything(folder: Path) -> bool:
    """Whether a folder holds more than the files of a run that was killed before its work began."""
    names = {path.name for path in folder.iterdir() if not is_workspace(path)}
    return bool(names) and not (LOCK in names and names <= _NOTHING)


def is_run_of(verb: str, folder: Path) -> bool:
    """Whether a folder is a run of a verb. The recipe shows which of the three training verbs made it."""
    mark, quickstart = folder / MARKS[verb], _is_quickstart(folder)
    if verb == "quickstart" or quickstart:
        return verb == "quickstart" and quickstart
    if MARKS[verb] != "recipe.json":
        return mark.is_file()
    recipe = json_or_none(mark)
    if not isinstance(recipe, dict):
        return False
    return verb == ("lit" if "image" in recipe else "distill" if recipe.get("distill") else "train")


def _is_quickstart(folder: Path) -> bool:
    """Whether the quickstart, which also trains, wrote a folder; an interrupted one is recognised by its command."""
    if (folder / MARKS["quickstart"]).is_file():
        return True
    with suppress(OSError):
        return (folder / COMMAND).read_text(encoding="utf-8", errors="replace").startswith("vitsmith quickstart")
    return False


@contextmanager
def place_of(
    verb: str, name: str, out: Path | None, *, force: bool = False, is_earlier: IsEarlier | None = None
) -> Iterator[Path]:
    """Reserve the place of an output that is written in one step, from before the work until it is there.

    The place is `out`, after `check_place`, and no other process may write it meanwhile; or a new numbered folder of
    `runs/<verb>`, which is removed if it stays empty.
    """
    if out is not None:
        with claimed(out):
            check_place(verb, out, force=force, is_earlier=is_earlier)
            yield out
        return
    folder = new_folder(default_place(verb, name))
    try:
        yield folder
    finally:
        remove_empty(folder, above=2)


@contextmanager
def whole_run(verb: str, name: str, out: Path | None = None) -> Iterator[tuple[Run, Path]]:
    """A run that is written completely or not at all, and its place: `out`, or a new folder under `runs/<verb>`.

    The old content of `out` is replaced: call `place_of` before the work, which checks that this is allowed.
    """
    target = out if out is not None else new_folder(default_place(verb, name))
    try:
        with replacing_folder(target) as partial, Run.within(partial) as run:
            yield run, target
    except BaseException:
        remove_empty(target)  # the reserved name, if it is still empty
        raise


def write_or_rescue(target: Path, write: Callable[[Path], Made], *, otherwise: str = "") -> Made:
    """Call `write(target)`; if that fails, after all the work, write into the folder for temporary files.

    Then it raises OutputError, which says where the output is; if it could not be written at all, the error ends with
    `otherwise`, the advice for that case.
    """
    try:
        return write(target)
    except OutputError as error:
        try:
            kept = Path(tempfile.mkdtemp(prefix="vitsmith-kept-")) / target.name
            write(kept)
        except Exception:  # that place fails too
            raise (OutputError(f"{error}. {otherwise}") if otherwise else error) from None
        raise OutputError(f"{error}. Nothing is lost: the output is in {kept}, move it from there") from error


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
            self._lock = _locked(self.folder)
        else:
            self.folder = out
            with claimed(out):
                check_place(verb, out, force=force)
                if out.is_dir() and _holds_anything(out):
                    self._lock = self._take_over()
                else:
                    with explained(out):
                        out.mkdir(parents=True, exist_ok=True)
                    self._lock = _locked(out)
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
        _locked(self.folder).release()  # no process writes it
        with explained(self.folder):
            workspace = Workspace.beside(self.folder)
            earlier = None
            try:
                earlier = workspace.stand_in()
                if earlier is not None:
                    _locked(earlier).release()  # and none has begun to meanwhile
                    self._earlier = workspace, earlier
                else:
                    workspace.keep()
                    workspace.remove()
                return _locked(self.folder)
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
        run._lock = _locked(folder)
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


def _locked(folder: Path) -> Lock:
    """Lock a run. Raises OutputError, which names the process that has the lock."""
    with explained(folder):
        try:
            return Lock.take(folder / LOCK)
        except HeldError as held:
            raise OutputError(
                f"{folder} is being written by {held}: wait until it ends, or stop it there first"
            ) from None
