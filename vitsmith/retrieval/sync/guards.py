"""What a sync refuses: to remove images from an index that may still be there, only not in sight."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from vitsmith.errors import InputError
from vitsmith.retrieval.sync.held import Holdings
from vitsmith.retrieval.sync.plan import SyncPlan


def check_others(holdings: Holdings, now: Mapping[str, str | None], planned: SyncPlan, *, drop_others: bool) -> None:
    """Raise InputError for files of the index that are still there, but are not among the inputs."""
    if holdings.texts or drop_others:
        return
    missing = [key for key in _recorded(holdings) if key not in now]
    others = [key for key in missing if _is_there(holdings, key)]
    if others:
        raise InputError(
            f"{len(others):,} files of {holdings.index.folder} are still there, but not among the inputs "
            f"({_shown(others)}): give them too, or add `drop_others` to remove them from the index"
        )
    moved = {old for old, _ in planned.moved}
    gone = [key for key in missing if key not in moved and key not in holdings.failed]
    above = {folder: _empty_above(folder) for folder in set(map(_folder_of, gone))}
    if emptied := sorted({empty for empty in above.values() if empty}):
        count = sum(bool(above[_folder_of(key)]) for key in gone)
        raise InputError(
            f"{_shown(emptied)} is empty, and {holdings.index.folder} has {count:,} images from there: mount the disk, "
            "if it is one; if you removed them, remove the empty folder too, or add `drop_others`"
        )


def check_not_emptied(holdings: Holdings, planned: SyncPlan, *, drop_others: bool) -> None:
    """Raise InputError when nothing that the index has is among the inputs, neither by path nor by content."""
    begun = sum(part.rows for part in holdings.begun.parts)
    if drop_others or not begun or any(planned.names[:begun]) or planned.changed:
        return
    raise InputError(
        f"nothing of the {begun:,} {holdings.index.space.kind} in {holdings.index.folder} is among the inputs: check "
        "that they are the right ones and that their disk is mounted, choose another `out`, or add `drop_others`"
    )


def _recorded(holdings: Holdings) -> Iterable[str]:
    """The keys of all files of the index, in its order."""
    begun = len(holdings.begun.parts)
    keys = {row.key: None for row in holdings.rows if row.part < begun}
    keys |= {key: None for copies in holdings.copies.values() for key, *_ in copies}
    return [*keys, *(key for key, one in holdings.failed.items() if key not in keys and one.part < begun)]


def _folder_of(key: str) -> str:
    return os.path.dirname(key)  # noqa: PTH120 - of any text


def _is_there(holdings: Holdings, key: str) -> bool:
    """Whether a file is there. Raises InputError where that cannot be known."""
    try:
        os.lstat(key)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return False
    except OSError as error:
        raise InputError(
            f"{key!r} of {holdings.index.folder} is not among the inputs and may still be there, as it cannot be "
            f"looked at ({error.strerror}): make its folder readable, or add `drop_others` to remove it from the index"
        ) from None
    return True


def _empty_above(folder: str) -> str:
    """The nearest folder above that is there, if it is empty, as a disk that is not mounted leaves it; or else ''."""
    while True:
        try:
            with os.scandir(folder) as entries:
                return folder if next(entries, None) is None else ""
        except (FileNotFoundError, NotADirectoryError):
            above = _folder_of(folder)
            if above == folder:
                return ""
            folder = above
        except OSError:  # its files were looked at
            return ""


def _shown(names: list[str]) -> str:
    return ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
