"""Duplicates and clusters as a page to look at: a contact sheet of `retrieval/sheet.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from vitsmith.errors import InputError
from vitsmith.retrieval.sheet import MOST, Card, CardGroup, check_sheet, write_sheet
from vitsmith.sorting.clusters import Cluster, Clusters
from vitsmith.sorting.duplicates import DuplicateGroup, Duplicates

__all__ = ["check_pictures", "check_sheet", "write_clusters", "write_duplicates"]
CENTRAL = 12
"""Pictures of a cluster on its sheet, the most central ones."""
Path = str | os.PathLike[str]
OnPicture = Callable[[], None]
"""Called after each picture."""


def write_duplicates(path: Path, found: Duplicates, on_picture: OnPicture = lambda: None) -> int:
    """Writes the groups, each with the picture to keep in a frame; returns how many groups have no place on the page.

    Raises InputError for texts, OutputError.
    """
    check_pictures(found.kind)
    note = "" if found.threshold is None else f" Near from a cosine of {found.threshold:g} of {found.model}."
    title = f"{len(found.groups):,} groups of duplicates in {found.count:,} images"
    note = f"Framed: the one to keep. Nothing was deleted.{note}"
    return _write(path, title, [_duplicates(group) for group in found.groups], note, on_picture)


def write_clusters(path: Path, found: Clusters, on_picture: OnPicture = lambda: None) -> int:
    """Writes the most central pictures of each cluster; returns and raises as `write_duplicates`."""
    check_pictures(found.kind)
    title = f"{len(found.groups):,} clusters in {found.count:,} images"
    groups = [_cluster(number, group) for number, group in enumerate(found.groups, 1)]
    note = f"{len(found.not_grouped):,} images lie in none. Features of {found.model}."
    return _write(path, title, groups, note, on_picture)


def _write(path: Path, title: str, groups: Sequence[CardGroup], note: str, on_picture: OnPicture) -> int:
    """Writes as many groups as have place on one page, the first ones, and returns how many have none."""
    sizes = np.cumsum([len(group.pictures) + (group.example is not None) for group in groups])
    count = max(int(np.searchsorted(sizes, MOST, side="right")), min(len(groups), 1))
    left_out = len(groups) - count
    more = f" The largest groups; {left_out:,} more have no place on this page." if left_out else ""
    write_sheet(path, title, groups[:count], note=f"{note}{more}", on_picture=on_picture)
    return left_out


def check_pictures(kind: str) -> None:
    """Raises InputError for texts: a sheet shows pictures."""
    if kind != "images":
        raise InputError("a sheet shows images, and these are texts: leave it out")


def _duplicates(group: DuplicateGroup) -> CardGroup:
    copies = sum(one.exact for one in group.others)
    told = [
        f"{copies} exact" if copies else "",
        f"{len(group.others) - copies} near" if copies < len(group.others) else "",
    ]
    cards = [Card(one.path, f"exact copy: {one.name}" if one.exact else one.name, one.score) for one in group.others]
    return CardGroup(group.keep.name, cards, ", ".join(filter(None, told)), Card(group.keep.path, group.keep.name))


def _cluster(number: int, group: Cluster) -> CardGroup:
    named = f": {group.name} ({group.share:.0%} of them)" if group.name else ""
    shown = zip(group.paths[:CENTRAL], group.members, group.scores, strict=False)
    return CardGroup(
        f"{number}{named}", [Card(path, name, score) for path, name, score in shown], f"{len(group):,} images"
    )
