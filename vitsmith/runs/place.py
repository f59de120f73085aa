"""The place where a verb writes: `runs/<verb>/<name>`, numbered when it exists, or `--out`; the same for all verbs.

An `--out` that is not empty is refused before any work. `--force` replaces only earlier output of the same verb, which
a file of that verb shows.
"""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from vitsmith.data.sets.hub_address import hub_name
from vitsmith.errors import OutputError
from vitsmith.files.atomic import check_not_around, check_writable, claimed, remove_empty
from vitsmith.files.failures import explained
from vitsmith.files.locks import HeldError
from vitsmith.runs.folder import LOCK, holds_anything, is_run_of, locked
from vitsmith.runs.written import noting_written
from vitsmith.weights.unfinished_run import unfinished_run

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
_LONGEST = 120

IsEarlier = Callable[[Path], bool]
Made = TypeVar("Made")


def model_name(model: str) -> str:
    """The name of a run from its model: 'pets' for runs/train/pets/model or a file in it, 'B_16' for B_16.npz.

    That of a model of the hub is its own, without owner, file and revision: 'vit-base' for hf:google/vit-base@main.
    """
    path = Path(model if hub_name(model) is None else "/".join(model.partition("@")[0].split("/")[:2]))
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
                locked(out).release(remove=False)  # the error names the process that writes it
            if not (out.is_dir() and holds_anything(out)):
                return
        if not is_earlier(out):
            what = "file" if out.is_file() else "folder"
            raise OutputError(f"{out} exists, a {what} that {verb} did not write: choose another `out`")
        if not force:
            if (run := unfinished_run(out)) is not None:
                told = f"is an unfinished run: resume it with  {run.resuming} ,"
                if not run.resumable:
                    told = "is a run that ended before its first checkpoint, and cannot be resumed:"
                raise OutputError(f"{out} {told} choose another `out`, or replace it with `force`")
            raise OutputError(f"{out} exists: choose another `out`, or replace it with `force`")


@contextmanager
def place_of(
    verb: str, name: str, out: Path | None, *, force: bool = False, is_earlier: IsEarlier | None = None
) -> Iterator[Path]:
    """Reserve the place of an output that is written in one step, from before the work until it is there.

    The place is `out`, after `check_place`, or a new numbered one in `runs/<verb>`; no other process may write it
    meanwhile. Nothing is made there before the output is: a process that ends without one, or is killed, leaves none.
    But where the file system has no locks, an empty folder reserves a numbered place, and a killed process leaves it.
    """
    if out is not None:
        with claimed(out):
            check_place(verb, out, force=force, is_earlier=is_earlier)
            with noting_written(out):
                yield out
        return
    with _unused(default_place(verb, name)) as place, noting_written(place):
        yield place


@contextmanager
def _unused(wanted: Path) -> Iterator[Path]:
    """Reserve `wanted`, or the first of `wanted-2`, `wanted-3` ... where nothing is and no other process will write."""
    for number in itertools.count(1):
        candidate = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        with ExitStack() as stack:
            if os.path.lexists(candidate):
                continue
            try:
                exclusive = stack.enter_context(claimed(candidate))
            except OutputError as error:
                if isinstance(error.__cause__, HeldError):
                    continue
                raise
            if not exclusive:  # without locks, an empty folder keeps others away
                try:
                    candidate.mkdir()
                except FileExistsError:
                    continue
                stack.callback(remove_empty, candidate)
            elif os.path.lexists(candidate):  # the process that had it before has written it
                continue
            yield candidate
            return


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
