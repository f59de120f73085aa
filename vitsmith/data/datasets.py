"""From what a user calls a data set to its images."""

from __future__ import annotations

from pathlib import Path

from vitsmith.data.digits import open_digits
from vitsmith.data.folder import HELD_OUT, open_folder, read_class_folders
from vitsmith.data.samples import Samples, Splits
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


def open_labelled(spec: str, split: str = "") -> tuple[Samples, str]:
    """Images to judge a model on, and what to call them in reports.

    `split` is 'train', 'val', 'validation' or 'test'. By default the held-out part of a data set that has one of its
    own ('digits', or a folder with one of these inside), and otherwise every image. Raises DatasetError.
    """
    if split and split not in (*HELD_OUT, "train"):
        raise DatasetError(f"unknown split {split!r}: {suggestion(split, (*HELD_OUT, 'train'))}")
    if spec in BUILT_IN:
        splits = BUILT_IN[spec]()
        return (splits.train, f"{spec}/train") if split == "train" else (splits.val, f"{spec}/{split or 'val'}")
    folder = Path(spec)
    chosen = split or next((name for name in HELD_OUT if (folder / name).is_dir()), "")
    return read_class_folders(folder / chosen), f"{folder.name}/{chosen}" if chosen else folder.name
