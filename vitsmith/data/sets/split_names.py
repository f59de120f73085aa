"""The names of splits: one table for folders, columns, shards, the hub and `--split`.

    train   train, training, trn
    val     val, valid, validation, validate, dev, devel, development, eval, evaluation, holdout, held-out
    test    test, testing, tst

Upper and lower case are the same, and 'set', 'split', 'data' or 'images' may follow, with or without '_', '-' or a
space: `Train`, `test_set`, `validation-images`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

SPLITS = ("train", "val", "test")
"""The names of splits in vitsmith."""

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "validate", "dev", "devel", "development"), "val"),
    **dict.fromkeys(("eval", "evaluation", "holdout", "heldout"), "val"),
    **dict.fromkeys(("test", "testing", "tst"), "test"),
}
"""Other names of splits, in lower case and without separators, and their names in vitsmith."""

_PARTING = re.compile(r"[\s_-]+")
_BEHIND = re.compile(r"(set|split|data|images)$")
_WORDS = re.compile(r"[a-z]+", re.IGNORECASE)


def split_of(name: str) -> str:
    """'train', 'val' or 'test' for any name of that split; empty for every other name."""
    plain = _PARTING.sub("", name.strip().lower())
    return SPLIT_NAMES.get(plain) or SPLIT_NAMES.get(_BEHIND.sub("", plain), "")


def split_words(file_name: str) -> list[str]:
    """The words of a file name that mean a split, in lower case, each once: ['train'] for 'pets-Train-0001.tar'."""
    words = (word.lower() for word in _WORDS.findall(file_name))
    return list(dict.fromkeys(word for word in words if split_of(word)))


def list_names(names: Iterable[str]) -> str:
    """'a', 'b' and 'c'."""
    *most, last = [repr(name) for name in names]
    return f"{', '.join(most)} and {last}" if most else last
