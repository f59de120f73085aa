"""An index that follows its inputs, as `--sync` of `vitsmith embed` makes it, with progress."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import progress, say

if TYPE_CHECKING:
    from vitsmith.encode import Encoder
    from vitsmith.retrieval.description import Space
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.sync.options import Synced


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
    from vitsmith.retrieval.sync.options import IndexOptions
    from vitsmith.retrieval.sync.run import sync_index
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

        options = IndexOptions(
            retry=retry,
            drop_others=drop_others,
            tell=say,
            on_input=on_input,
            on_read=lambda: bar.advance(looking),
            on_plan=on_plan,
        )
        try:
            return sync_index(encoder, sources, writer, options, columns)
        except KeyboardInterrupt:
            writer.commit()
            done = writer.description.count - writer.published.count
            kept = "and the index is as it was" if writer.published.complete else "and the index is unfinished"
            raise Interrupted(
                f"interrupted; {done:,} {space.kind} were embedded, {kept}: the same command continues from there"
            ) from None
