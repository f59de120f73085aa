"""Find files that have changed since they were embedded: their vectors are those of the old images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vitsmith.data.images.photo import FileState
from vitsmith.errors import counted, shown_names
from vitsmith.retrieval.file_state import NAMELESS, is_other
from vitsmith.retrieval.index import Index


class FileChanges(NamedTuple):
    """What became of the files of an index since they were embedded."""

    changed: list[str]
    """The ids of those with another content."""
    unrecorded: int
    """The number of those of which this is not known: older versions did not record what they read. Times do not tell,
    as files and indexes are copied, and clocks are set."""


def file_changes(index: Index, positions: Sequence[int] | None = None) -> FileChanges:
    """What became of the files of an index of images, copies too, or of those of the rows at `positions`.

    Missing files are left out: in an old index without a root, a relative path may not be found from another folder.
    """
    changed: list[str] = []
    unrecorded = 0
    for name, state in dict.fromkeys(_files(index, positions)):
        if state is None:
            unrecorded += not NAMELESS.fullmatch(name) and os.path.exists(index.path_of(name))  # noqa: PTH110 - of any text
        elif is_other(index.path_of(name), state):
            changed.append(name)
    return FileChanges(changed, unrecorded)


def tell_changed(changed: Sequence[str], where: object) -> str:
    """A line that names changed files of an index and says what to do."""
    verb, their = ("has", "its vector is") if len(changed) == 1 else ("have", "their vectors are")
    return (
        f"{counted(len(changed), 'file')} of {where} {verb} changed since they were embedded "
        f"({shown_names(changed)}), and {their} from before the change: run  vitsmith embed  again with --sync, which "
        "embeds those alone"
    )


def tell_unrecorded(unrecorded: int, count: int, where: object) -> str:
    """A line that says of how many files it is not known whether they changed, and what to do."""
    return (
        f"{unrecorded:,} of the {count:,} images in {where} were embedded by an older version, which did not record "
        "their files: whether they have changed since is not known; run  vitsmith embed  again with --sync, "
        "which embeds these once more"
    )


def _files(index: Index, positions: Sequence[int] | None) -> Iterator[tuple[str, FileState | None]]:
    """The id and the recorded state of each image and of its copies; of all, or of those at `positions`."""
    wanted = None if positions is None else np.unique(np.asarray(positions, np.int64))
    for at in range(len(index.description.parts)) if index.space.kind == "images" else ():
        part, (start, end) = index.part(at), index.starts[at : at + 2]
        rows = None if wanted is None else (wanted[(wanted >= start) & (wanted < end)] - start).tolist()
        if rows == []:
            continue
        names, copies = part.ids(rows), part.copies()
        for name, state in zip(names, part.seen(rows) or [None] * len(names), strict=True):
            yield name, state
            yield from copies.get(state.digest, ()) if state is not None else ()
