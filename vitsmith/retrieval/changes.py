"""Find files that have changed since they were embedded: their vectors are those of the old images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitsmith.retrieval.file_state import is_other
from vitsmith.retrieval.index import Index


def changed_files(index: Index, positions: Sequence[int] | None = None) -> list[str]:
    """The ids in an index of images, and of their copies, whose files were changed since they were embedded; of all
    rows, or of those at `positions`.

    Missing files are left out: in an old index without a root, a relative path may not be found from another folder. In
    an old index without the states of files only their times are compared: a file has changed when it is newer than its
    part of the index.
    """
    if index.space.kind != "images":
        return []
    if positions is None:
        chosen = {part: range(facts.rows) for part, facts in enumerate(index.description.parts)}
        return [name for part, rows in chosen.items() for name in _changed(index, part, rows)]
    by_part: dict[int, list[int]] = {}
    for position in sorted(set(positions)):
        part = int(index.starts.searchsorted(position, side="right")) - 1
        by_part.setdefault(part, []).append(position - int(index.starts[part]))
    return [name for part, rows in by_part.items() for name in _changed(index, part, rows)]


def tell_changed(changed: Sequence[str], count: int, where: object) -> str:
    """A line that names changed files of an index and says what to do."""
    shown = ", ".join(map(repr, changed[:3])) + (", ..." if len(changed) > 3 else "")
    verb, their = ("has", "its vector is") if len(changed) == 1 else ("have", "their vectors are")
    return (
        f"{len(changed):,} of the {count:,} images in {where} {verb} changed since they were embedded ({shown}), and "
        f"{their} from before the change: run  vitsmith embed  again with --sync, which embeds those alone"
    )


def _changed(index: Index, at: int, rows: Sequence[int]) -> list[str]:
    part = index.part(at)
    names, seen = part.ids(rows), part.seen(rows)
    if seen is None:
        written = part.written_at()
        return [name for name in names if _modified(index.path_of(name)) > written]
    copies = part.copies()
    files = dict.fromkeys(
        one
        for name, state in zip(names, seen, strict=True)
        for one in ((name, state), *(copies.get(state.digest, ()) if state is not None else ()))
    )
    return [name for name, state in files if is_other(index.path_of(name), state)]


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except (OSError, ValueError):
        return 0
