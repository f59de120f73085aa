"""How an index is written, and what a sync tells of what it found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from vitsmith.arguments import Tell, flag
from vitsmith.retrieval.rows import Progress


class ColumnChange(NamedTuple):
    """A column whose values are of another kind than before, as 'numbers' and 'texts'."""

    name: str
    before: str
    now: str


class ColumnChanges(NamedTuple):
    """What a sync did to the columns of an index."""

    added: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    changed: tuple[ColumnChange, ...] = ()


@dataclass(frozen=True)
class Synced:
    """What a sync found: numbers of files, or of texts."""

    added: int
    changed: int
    removed: int
    moved: int
    """Files with another path than before, whose vectors were kept."""
    copies: int
    """Files of the index that have the content of another one, and share its row."""
    unchanged: int
    unreadable: int
    embedded: int
    """Rows that were computed, by this sync and by those before it that were interrupted."""
    removed_names: tuple[str, ...] = field(default=(), repr=False)
    kept_unreadable: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """(id, reason) of the unreadable files that keep their vectors, as only their rights have changed; the others are
    `Index.failed`."""
    columns: ColumnChanges = field(default_factory=ColumnChanges)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, int)}


@dataclass(frozen=True, kw_only=True)
class IndexOptions:
    """How `vitsmith.write_index` writes an index, beside what is in it."""

    retry: bool = False
    """Inputs that could not be read are tried again, also where they are as they were."""
    drop_others: bool = False
    """With `sync`: files that are still there, but not among the inputs, are removed from the index too, and so are
    those from a folder that is empty or gone."""
    tell: Tell | None = None
    """Called with remarks, a line each; by default they are warnings."""
    on_input: Progress | None = None
    """Called for each input that is embedded, with its mistake, if any."""
    on_changed: Callable[[Sequence[str]], None] | None = None
    """Without `sync`: called with the names of files that were changed since they were embedded; by default a remark
    names them."""
    on_synced: Callable[[Synced], None] | None = None
    """With `sync`: called with what was found."""
    on_read: Callable[[], None] | None = None
    """With `sync`: called for each file that is read to compare its content."""
    on_plan: Callable[[int], None] | None = None
    """With `sync`: called with the number of inputs to embed, before they are."""

    def __post_init__(self) -> None:
        flag(self.retry, "retry")
        flag(self.drop_others, "drop_others")
