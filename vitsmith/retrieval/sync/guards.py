"""What a sync refuses: to remove images from an index that may still be there, only not in sight."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from vitsmith.errors import InputError, counted, shown_names
from vitsmith.retrieval.sync.held import Holdings
from vitsmith.retrieval.sync.plan import SyncPlan


def check_others(holdings: Holdings, now: Mapping[str, str | None], planned: SyncPlan, *, drop_others: bool) -> None:
    """Raise InputError for files of the index that are not among the inputs and may still be there: those that are
    there, and those of a folder that is empty or gone, as where a disk is not mounted."""
    if holdings.texts or drop_others:
        return
    where = holdings.index.folder
    missing = [key for key in _published(holdings) if key not in now]
    others = [key for key in missing if _is_there(holdings, key)]
    if others:
        raise InputError(
            f"{counted(len(others), 'file')} of {where} {'is' if len(others) == 1 else 'are'} still there, but not "
            f"among the inputs ({shown_names(others)}): give all of them, or add `drop_others` to remove these from "
            "the index"
        )
    moved = {old for old, _ in planned.moved}
    gone = Counter(_folder_of(key) for key in missing if key not in moved and key not in holdings.failed)
    _check_vanished(holdings, now, gone)
    above = {folder: _empty_above(folder) for folder in gone}
    if emptied := sorted({empty for empty in above.values() if empty}):
        count = sum(gone[folder] for folder, empty in above.items() if empty)
        raise InputError(
            f"{shown_names(emptied)} is empty, and {where} has {counted(count, 'image')} from there: mount the disk, "
            "if it is one, or add `drop_others` to remove them from the index"
        )


def _check_vanished(holdings: Holdings, now: Mapping[str, str | None], gone: Mapping[str, int]) -> None:
    """Raise InputError for an input that is not there, and was a folder with images of the index."""
    counts: dict[str, int] = {}
    for folder, count in gone.items():
        for one in _with_those_above(folder):
            counts[one] = counts.get(one, 0) + count
    vanished = [one for one in counts if one in now and not os.path.exists(one)]  # noqa: PTH110 - of any text
    if vanished:
        first = vanished[0]
        raise InputError(
            f"{shown_names(vanished)} is not there, and {holdings.index.folder} has {counted(counts[first], 'image')} "
            f"from {'there' if len(vanished) == 1 else repr(first)}: mount the disk, if it is one, or leave it out of "
            "the inputs to remove them from the index"
        )


def check_not_emptied(holdings: Holdings, planned: SyncPlan, *, drop_others: bool) -> None:
    """Raise InputError when nothing that the index has is among the inputs, neither by path nor by content."""
    rows = holdings.published_rows
    if drop_others or not rows or any(planned.names[:rows]) or planned.changed:
        return
    raise InputError(
        f"nothing of the {rows:,} {holdings.index.space.kind} in {holdings.index.folder} is among the inputs: check "
        "that they are the right ones and that their disk is mounted, choose another `out`, or add `drop_others`"
    )


def _published(holdings: Holdings) -> Iterable[str]:
    """The keys of all files of the index, in its order."""
    parts = len(holdings.published.parts)
    keys = {row.key: None for row in holdings.rows if row.part < parts}
    keys |= {one.key: None for copies in holdings.copies.values() for one in copies}
    return [*keys, *(key for key, one in holdings.failed.items() if key not in keys and one.part < parts)]


def _folder_of(key: str) -> str:
    return os.path.dirname(key)  # noqa: PTH120 - of any text


def _with_those_above(folder: str) -> Iterator[str]:
    while True:
        yield folder
        above = _folder_of(folder)
        if above == folder:
            return
        folder = above


def _is_there(holdings: Holdings, key: str) -> bool:
    """Whether a file is there; a folder in its place is none, as where a disk is mounted that was missing before.

    Raises InputError where that cannot be known.
    """
    if os.path.isdir(key):  # noqa: PTH112 - of any text
        return False
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
