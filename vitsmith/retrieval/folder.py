"""The folder of an index: locked while it is written, checked before it is continued, removed as a whole."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from vitsmith.errors import InputError, OutputError, shown
from vitsmith.files.atomic import remove_empty
from vitsmith.files.failures import explained
from vitsmith.files.locks import HeldError, Lock
from vitsmith.files.workspace import clean
from vitsmith.retrieval.description import (
    DESCRIPTION,
    SYNC,
    Description,
    Space,
    check_same_model,
    is_index,
    read_description,
    unfinished_sync,
)
from vitsmith.retrieval.index import Index, check_parts, open_index
from vitsmith.retrieval.part import PartRows
from vitsmith.retrieval.part_files import hash_names

LOCK = ".lock"
_LONGEST_NAME = 200
"""Characters of an id in a message; of texts they may be many."""
_FILES = re.compile(
    r"part-\d{6,}\.(npy|ids\.jsonl|failed\.jsonl|seen\.jsonl|columns\.json|copies\.jsonl)|approximate\.(faiss|json)"
    rf"|{re.escape(SYNC)}|{re.escape(DESCRIPTION)}|{re.escape(LOCK)}|\..*\.partial"
)
"""The names of what an index consists of."""


def current_folder() -> str:
    """The current folder, for the root of an index; empty when it has been deleted."""
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        return ""


def inputs_done(folder: Path, description: Description, names: Sequence[str]) -> int:
    """The number of `names` that are already in an index. Raises InputError unless `names` begins with its inputs."""
    at = 0
    for number, part in enumerate(description.parts):
        if part.retried:
            continue
        if hash_names(names[at : at + part.inputs]) != part.names:
            raise InputError(
                f"{folder} holds {description.inputs:,} inputs, and these are not the same in the same order "
                f"({_first_difference(Index(folder, description).part(number), names, at)}): give the same list, or a "
                "longer one that begins with it, or add `sync`, which follows every difference, or choose another `out`"
            )
        at += part.inputs
    return at


def _first_difference(part: PartRows, names: Sequence[str], at: int) -> str:
    """Which of `names` from `at` on is not what the part has there.

    Its ids are in order; where among them stood those that could not be read is not recorded.
    """
    ids, unread = part.ids(), Counter(one["id"] for one in part.failed())
    row = 0
    for name in names[at : at + part.facts.inputs]:
        if row < len(ids) and name == ids[row]:
            row += 1
        elif unread[name]:
            unread[name] -= 1
        else:
            break
    else:
        name = ""
    here = ids[row] if row < len(ids) else next(unread.elements(), "")
    given, held = shown(name, _LONGEST_NAME), shown(here, _LONGEST_NAME)
    if not name and not here:  # only the order of those that could not be read differs
        return f"a difference is among {at + 1:,} to {at + part.facts.inputs:,}"
    if not name or not here:
        return f"{held} is missing" if here else f"{given} was not among them"
    return f"the first that differs is {given}, where it has {held}"


def remove_index(folder: Path) -> None:
    """Remove an index, index.json last, as it names the other files. Other things in the folder stay.

    Raises InputError while it is being written.
    """
    locked(folder).release()
    with explained(folder):
        for path in folder.iterdir():
            if path.name != DESCRIPTION and _FILES.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        (folder / DESCRIPTION).unlink(missing_ok=True)
    remove_empty(folder)


def remove_leftovers(folder: Path, known: Collection[str]) -> None:
    """Remove half-written files, and complete ones of parts and syncs that are not `known`: a killed process left them.

    What cannot be removed is told in a warning.
    """
    clean(folder)
    left = []
    for path in folder.iterdir():
        half_written = path.name.startswith(".") and path.name.endswith(".partial") and path.is_file()
        ours = path.name.startswith((SYNC, "part-")) and _FILES.fullmatch(path.name)
        if half_written or (ours and path.name not in known):
            left.append(path)
    for path in left:
        try:
            path.unlink(missing_ok=True)
        except PermissionError:  # Windows does not remove what another process reads: next time
            pass
        except OSError as error:
            warnings.warn(
                f"{path} is not of the index any more and cannot be removed ({error.strerror}): the next run of the "
                "command tries again", stacklevel=4,
            )  # fmt: skip


def check_only_index(folder: Path) -> None:
    """Raise OutputError for an index whose folder also holds other things, where a new one cannot take its place."""
    foreign = sorted(
        one.name for one in folder.iterdir() if not one.name.startswith(".") and not _FILES.fullmatch(one.name)
    )
    if foreign:
        raise OutputError(f"{folder} also holds {foreign[0]!r}, which is not of the index: move it elsewhere first")


def continued(folder: Path, space: Space) -> Description:
    """The description of an index to be continued. Raises InputError when it was made in another way."""
    description = read_description(folder)
    have = description.space
    for what in ("kind", "identity", "what", "dtype", "precision", "width"):  # identity depends on the kind
        if what == "identity":
            check_same_model(folder, have, space.identity, space.model)
        elif getattr(have, what) != getattr(space, what):
            named = "" if what == "what" else f"{what} "
            raise InputError(
                f"{folder} has {named}{getattr(have, what)} and cannot be continued with {getattr(space, what)}: give "
                "the same, or choose another `out`"
            )
    open_index(folder, unfinished=True)
    return description


def interrupted_sync(folder: Path, description: Description) -> Description | None:
    """What an interrupted sync has made so far, if all its files are whole."""
    found = unfinished_sync(folder, description)
    try:
        if found is not None:
            check_parts(Index(folder, found), len(description.parts))
    except InputError:
        return None
    return found


def check_folder(folder: Path) -> None:
    """Raise OutputError for a file, and for a folder that holds anything else than an index."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; choose another output folder")
    if folder.is_dir() and not is_index(folder):
        foreign = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
        if foreign:
            raise OutputError(f"{folder} holds other files than an index ({foreign[0]}); choose another output folder")


def locked(folder: Path) -> Lock:
    """Lock the folder until the lock is released or the process ends. Raises InputError."""
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return Lock.take(folder / LOCK)
        except HeldError as held:
            raise InputError(
                f"{folder} is being written by another process: wait for it, or choose another `out` ({held})"
            ) from None
