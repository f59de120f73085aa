"""From what a user calls a data set to its images."""

from __future__ import annotations

from pathlib import Path

from vitsmith.data.digits import open_digits
from vitsmith.data.folder import open_folder
from vitsmith.data.samples import Splits
from vitsmith.errors import DatasetError, suggestion

BUILT_IN = {"digits": open_digits}


def open_dataset(spec: str, *, seed: int = 0, val_fraction: float = 0.2) -> Splits:
    """The data set called `spec`: 'digits', or the path of a folder as `open_folder` takes it.

    'digits' is always the built-in set; a folder of that name is './digits'. `seed` and `val_fraction` decide the
    split of a folder that brings none of its own. Raises DatasetError, and MissingPackageError for 'digits'.
    """
    if spec in BUILT_IN:
        return BUILT_IN[spec]()
    if not Path(spec).exists():
        raise DatasetError(
            f"the data set {spec!r} is neither a folder nor built in: check the path; {suggestion(spec, BUILT_IN)}"
        )
    return open_folder(spec, seed=seed, val_fraction=val_fraction)
