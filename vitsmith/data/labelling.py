"""What images of a data set are labelled with, and where tables and shards have it."""

from __future__ import annotations

from typing import NamedTuple


class Labelling(NamedTuple):
    """One way to label images."""

    noun: str
    """What messages call a label."""
    short: str
    """What columns and members of them are called."""
    option: str
    """What users say which column, or key of a shard's JSON, with."""
    columns: tuple[str, ...]
    """Columns of tables that are taken without being asked for, the first that is there."""
    member: str
    """Extension of the member of a tar shard that is nothing but the label."""
    keys: tuple[str, ...]
    """Keys in a shard's JSON that are taken without being asked for."""
    several: bool
    """Whether an image may have more than one, on rows of their own or in a list."""


CLASSES = Labelling(
    "class name", "label", "label_column", ("label", "class", "labels", "class_name"), "cls", ("label",), several=False
)
CAPTIONS = Labelling(
    "caption", "caption", "caption_column", ("caption", "text", "title"), "txt", ("caption", "text"), several=True
)
