"""Google's files as timm's conversions on the hub, as rows of data (google_copies.csv), for where the bucket refuses.

A row is there only where the origin that timm 1.0.31 records is that very file; `benchmarks/timm_conversions.py` writes
them. Other runs of AugReg are other weights: they are named in messages, and never taken in the place of one another.
"""

from __future__ import annotations

import csv
import functools
import re
from importlib import resources

from vitsmith.fields import Frozen


class GoogleCopy(Frozen):
    """A published file and its copy."""

    url: str
    """Address of the `.npz`."""
    name: str
    """'OWNER/NAME' on the hub."""


@functools.cache
def google_copies() -> tuple[GoogleCopy, ...]:
    """All rows, in timm's order."""
    text = resources.files(__package__).joinpath("google_copies.csv").read_text(encoding="utf-8")
    return tuple(GoogleCopy.model_validate(row) for row in csv.DictReader(text.splitlines()))


def copy_of_url(url: str) -> GoogleCopy | None:
    """The copy of a file; None if none is recorded."""
    return next((row for row in google_copies() if row.url == url), None)


def other_runs(url: str) -> list[str]:
    """'hf:OWNER/NAME' of AugReg's other runs that have the model, data set and resolution of this one."""
    wanted = _run(url)
    return [f"hf:{row.name}" for row in google_copies() if wanted and row.url != url and _run(row.url) == wanted]


def _run(url: str) -> tuple[str, ...] | None:
    """Model, data set and resolution in the name of a file of AugReg; None for other files."""
    found = re.search(r"/augreg/(\w+)-(i\d+k)-[^/]*?(?:--(\w+)-.*(res_\d+))?\.npz$", url)
    return found and (found[1], *((found[3], found[4]) if found[3] else (found[2],)))
