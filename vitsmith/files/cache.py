"""The folder for what is downloaded or computed once and kept between starts."""

from __future__ import annotations

import os
from pathlib import Path

from vitsmith.errors import OutputError


def cache_folder() -> Path:
    """$VITSMITH_CACHE, else $XDG_CACHE_HOME/vitsmith, else ~/.cache/vitsmith.

    Raises OutputError without any of them: a process may have no home folder.
    """
    usual = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vitsmith"
    chosen = Path(os.environ.get("VITSMITH_CACHE") or usual)
    try:
        return chosen.expanduser()
    except RuntimeError as error:  # no HOME, and no entry for this user in the system's list
        raise OutputError(
            f"there is no home folder for {chosen}, where downloads are kept: set VITSMITH_CACHE to a folder that can "
            "be written"
        ) from error
