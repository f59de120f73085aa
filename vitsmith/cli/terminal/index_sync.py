"""An index that follows its inputs, as `--sync` of `vitsmith embed` makes it, with progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import progress, say

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.description import Space
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.sync.run import Synced


def check_sync(out: Path, folder: Path, *, sync: bool, force: bool, drop_others: bool) -> None:
    """Raises InputError for options that do not go together, before any work."""
    from vitsmith.errors import InputError

    if drop_others and not sync:
        raise InputError("--drop-others says what --sync removes: give --sync too")
    if sync and force:
        raise InputError("--sync keeps what has not changed, and --force begins anew: give one of them")
    if sync and folder != out:
        raise InputError(
            f"--sync follows changes in an index, a folder, and {out} is a single file: give a folder, as "
            f"--out {out.with_suffix('')}"
        )


def synced_index(
    encoder: Encoder,
    sources: list[Any],
    space: Space,
    folder: Path,
    *,
    retry: bool,
    drop_others: bool,
    columns: list[dict[str, Any]] | None = None,
) -> tuple[Index, Synced]:
    """The index in `folder` after it has followed `sources`. Raises what `sync_index` does, and Interrupted."""
    from vitsmith.errors import Interrupted
    from vitsmith.retrieval.sync.run import Following, sync_index
    from vitsmith.retrieval.writer import IndexWriter

    with IndexWriter(folder, space, sync=True) as writer, progress(unit=space.kind) as bar:
        looking = bar.add_task("comparing", total=None, note="")
        embedding = bar.add_task("embedding", total=None, note="", visible=False)

        def on_plan(count: int) -> None:
            bar.update(looking, visible=False)
            bar.update(embedding, total=count, visible=True)

        def on_input(problem: str | None) -> None:
            bar.advance(embedding)
            if problem is not None:
                say(f"skipped: {problem}")

        how = Following(
            retry=retry,
            drop_others=drop_others,
            columns=columns,
            on_input=on_input,
            on_read=lambda: bar.advance(looking),
            on_plan=on_plan,
        )
        try:
            return sync_index(encoder, sources, writer, how)
        except KeyboardInterrupt:
            writer.commit()
            done = writer.description.count - writer.begun.count
            kept = "and the index is as it was" if writer.begun.complete else "and the index is unfinished"
            raise Interrupted(
                f"interrupted; {done:,} {space.kind} were embedded, {kept}: the same command continues from there"
            ) from None


def columns_beside(columns: str, data: str, image_column: str, sources: list[Any]) -> list[dict[str, Any]] | None:
    """What `--columns` keeps of the table `--data`, for each source. Raises InputError."""
    from vitsmith.data.sets.table_columns import columns_of_table
    from vitsmith.errors import InputError
    from vitsmith.retrieval.rows import rows_of

    if not columns:
        return None
    if not data:
        raise InputError("--columns names columns of the table --data: give --data too")
    names = [name.strip() for name in columns.split(",") if name.strip()]
    return rows_of(columns_of_table(data, names, sources, image_column=image_column), len(sources))
