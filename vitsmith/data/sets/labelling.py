"""The kinds of label (class names, captions), and where tables and shards hold them."""

from __future__ import annotations

from typing import NamedTuple


class Labelling(NamedTuple):
    """One way to label images."""

    noun: str
    """The name of a label in messages."""
    short: str
    """The short name in messages about columns and members of shards."""
    option: str
    """The option that names the column, or the key in a shard's JSON."""
    columns: tuple[str, ...]
    """Default columns of tables; the first one that exists is read."""
    member: str
    """Extension of the member of a tar shard that holds only the label."""
    keys: tuple[str, ...]
    """Default keys in a shard's JSON."""
    several: bool
    """Whether an image may have several labels, in separate rows or in a list."""


CLASSES = Labelling(
    "class name", "label", "label_column", ("label", "class", "labels", "class_name"), "cls", ("label",), several=False
)
CAPTIONS = Labelling(
    "caption", "caption", "caption_column", ("caption", "text", "title"), "txt", ("caption", "text"), several=True
)
UNLABELLED = Labelling("label", "label", "label_column", (), "", (), several=True)
"""Images whose labels are not used: their table needs no column of labels, and may list an image several times."""
