"""Where a verb leaves what it made: `runs/<verb>/<name>`, numbered when it exists, with the command that made it."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from vitsmith.errors import InputError, OutputError
from vitsmith.files import check_writable, new_folder, replacing_folder, write_text
from vitsmith.json_text import to_json, with_nulls


def model_name(model: str) -> str:
    """What to call a run after a model: 'pets' for runs/train/pets/model, 'B_16' for B_16.npz."""
    path = Path(model)
    return path.resolve().parent.name if path.name in ("model", ".", "") else path.stem


def check_place(verb: str, out: Path | None, *, force: bool) -> None:
    """Raises OutputError, before any work, when a run could not be written to `out`, or would replace something.

    With `force` an earlier run of the same verb, known by its `<verb>.json`, may be replaced, and nothing else.
    """
    if out is None:
        return
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file: choose another --out")
    if out.exists() and any(out.iterdir()):
        if not force:
            raise OutputError(f"{out} exists: choose another --out, or replace it with --force")
        if not (out / f"{verb}.json").is_file():
            raise OutputError(f"{out} holds no run of {verb} and would be lost: choose another --out")
    check_writable(out)


@contextmanager
def whole_run(verb: str, name: str, out: Path | None = None) -> Iterator[tuple[Run, Path]]:
    """A run that appears whole or not at all, and where it will be: `out`, or a new folder under `runs/<verb>`.

    What is at `out` is replaced.
    """
    target = out if out is not None else new_folder(Path("runs") / verb / name)
    try:
        with replacing_folder(target) as partial, Run(verb, name, partial) as run:
            yield run, target
    except BaseException:
        with suppress(OSError):  # the name that was taken, while there is nothing in it
            target.rmdir()
        raise


class Run:
    """One run's folder and its log of metrics.

    The folder is `out` when given, else `runs/<verb>/<name>`; an existing one that holds anything is left alone and
    a number is added. Raises OutputError when the place cannot be written.
    """

    def __init__(self, verb: str, name: str, out: Path | None = None) -> None:
        self.folder = new_folder(out if out is not None else Path("runs") / verb / name)
        write_text(self.folder / "command.txt", shlex.join(["vitsmith", *sys.argv[1:]]) + "\n")
        self._metrics: IO[str] | None = None
        self._fresh = True
        self._own_parents = out is None

    @classmethod
    def reopen(cls, folder: Path) -> Self:
        """The run in `folder`, to go on with. Raises OutputError when it cannot be written."""
        run = cls.__new__(cls)
        run.folder = folder
        command = folder / "command.txt"
        earlier = command.read_text(encoding="utf-8") if command.exists() else ""
        write_text(command, earlier + shlex.join(["vitsmith", *sys.argv[1:]]) + "\n")
        run._metrics = None
        run._fresh = False
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._metrics is not None:
            self._metrics.close()
        elif self._fresh and isinstance(error, InputError):
            self._vanish()

    def _vanish(self) -> None:
        """A run that was refused before it began leaves no folder, unless somebody else put something into it."""
        from vitsmith.data.split_record import SPLIT

        for path in self.folder.iterdir():
            if path.suffix in (".txt", ".json") or path.name == SPLIT:
                path.unlink()
        parents = self.folder.parents[:2] if self._own_parents else ()
        with suppress(OSError):  # the first that is not empty
            for folder in (self.folder, *parents):
                folder.rmdir()

    def log(self, **values: Any) -> None:
        """Appends one line to metrics.jsonl, at once on disk for whoever watches. NaN and infinity become null."""
        try:
            if self._metrics is None:
                self._metrics = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._metrics.write(to_json(with_nulls(values), ascii_only=True) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder / 'metrics.jsonl'}: {error.strerror}; free some space"
            ) from error

    def rows(self) -> list[dict[str, Any]]:
        """What has been logged; a last line that was cut off is passed over."""
        path = self.folder / "metrics.jsonl"
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            with suppress(json.JSONDecodeError):
                rows.append(json.loads(line))
        return rows

    def rewrite_rows(self, rows: Iterable[dict[str, Any]]) -> None:
        """Replaces the whole log; what comes later is appended to it."""
        assert self._metrics is None
        write_text(
            self.folder / "metrics.jsonl", "".join(to_json(with_nulls(row), ascii_only=True) + "\n" for row in rows)
        )

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a JSON document into the folder. NaN and infinity become null."""
        path = self.folder / name
        write_text(path, to_json(with_nulls(value), indent=2) + "\n")
        return path
