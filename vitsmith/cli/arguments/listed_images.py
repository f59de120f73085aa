"""The images that `vitsmith embed` is given, each file once and by its plain path, as far as its index allows that."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from vitsmith.cli.terminal.output import say

Columns = list[dict[str, Any]] | None
"""What is known of each image, in their order."""


def listed_images(sources: list[Any], columns: Columns, begun: Path | None) -> tuple[list[Any], Columns]:
    """The images with their columns: 'photos/moon.jpg' for './photos/moon.jpg', and not a second time.

    They stay as they are where `begun`, the folder of an index that is to be continued, was begun with them so, as
    older versions did. Says how many files were given again. Raises InputError for one that is given again with other
    columns.
    """
    from vitsmith.errors import InputError, counted
    from vitsmith.retrieval.folder import current_folder
    from vitsmith.retrieval.sync.held import path_key

    here, known = current_folder(), dict[str, int]()
    kept: list[int] = []
    for at, source in enumerate(sources):
        if isinstance(source, str):
            key = path_key(source, here)
            if key in known:
                if columns is not None and columns[at] != columns[known[key]]:
                    raise InputError(f"{source!r} is given twice, with other columns: give it once")
                continue
            known[key] = at
        kept.append(at)
    plain = [_plain(sources[at]) for at in kept]
    again = len(sources) - len(kept)
    told = f"{counted(again, 'file')} {'was' if again == 1 else 'were'} given again"
    if begun is not None and plain != sources and _has(begun, sources) and not _has(begun, plain):
        if again:
            say(f"{told}, and {begun} has a row for each time, as an older version made it: --force makes it anew")
        return sources, columns
    if again:
        say(f"{told}: each file counts once")
    return plain, columns if columns is None else [columns[at] for at in kept]


def _plain(source: Any) -> Any:
    """A path without the points that lead nowhere; two points stay, as they may come after a link."""
    if isinstance(source, str) and (source.startswith(".") or "/./" in source):
        return os.fspath(Path(source))
    return source


def _has(folder: Path, sources: list[Any]) -> bool:
    """Whether there is an index that was begun with these images."""
    from vitsmith.errors import InputError
    from vitsmith.retrieval.build import name_of
    from vitsmith.retrieval.description import is_index, read_description
    from vitsmith.retrieval.folder import inputs_done

    try:
        names = [name_of(source, number) for number, source in enumerate(sources)]
        return is_index(folder) and inputs_done(folder, read_description(folder), names) > 0
    except InputError:
        return False
