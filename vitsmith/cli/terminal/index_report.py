"""Reports of `vitsmith embed`: what an index holds, what a sync found, and what was skipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import print_facts, print_json, say

if TYPE_CHECKING:
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.sync.options import Synced


def report_index(index: Index, facts: dict[str, Any], before: int, json: bool) -> None:
    """What an index holds, of which `facts` are what --json says, and what was there `before`."""
    from vitsmith.retrieval.description import describe_numbers

    space, description = index.space, index.description
    if json:
        print_json(facts | {"done_before": before})
    else:
        went_on = f" ({before:,} were there before)" if before else ""
        print_facts(
            [
                (space.kind, f"{len(index):,}{went_on}"),
                ("skipped", description.failures or None),
                ("patches" if space.grid else "vectors", f"{describe_numbers(space)}, {space.dtype}"),
                ("model", f"{space.model}, {space.engine} {space.precision}"),
                ("written to", facts["out"]),
            ]
        )


def facts_of(index: Index, out: Path, failed: list[dict[str, str]]) -> dict[str, Any]:
    """What --json says of an index, in which `failed` could not be read."""
    space, description = index.space, index.description
    return {
        "out": str(out),
        "kind": space.kind,
        f"num_{space.kind}": len(index),
        "failures": description.failures,
        "failed": failed,
        "what": space.what,
        "grid": space.grid,
        "width": space.width,
        "dtype": space.dtype,
        "model": space.model,
        "identity": space.identity,
        "engine": space.engine,
        "precision": space.precision,
    }


def report_sync(index: Index, synced: Synced, facts: dict[str, Any], json: bool) -> None:
    """What a sync found and did."""
    from vitsmith.retrieval.description import describe_numbers

    space = index.space
    if json:
        print_json(facts | synced.counts | _details(synced))
        return
    shown = [(name, f"{count:,}" if count else None) for name, count in synced.counts.items()]
    print_facts(
        [
            (space.kind, f"{len(index):,}"),
            *shown,
            ("patches" if space.grid else "vectors", f"{describe_numbers(space)}, {space.dtype}"),
            ("model", f"{space.model}, {space.engine} {space.precision}"),
            ("written to", facts["out"]),
        ]
    )


def _details(synced: Synced) -> dict[str, Any]:
    changes = synced.columns
    return {
        "kept_unreadable": [{"id": name, "error": why} for name, why in synced.kept_unreadable],
        "columns_added": list(changes.added),
        "columns_dropped": list(changes.dropped),
        "columns_changed": [one._asdict() for one in changes.changed],
    }


def tell_left_out(
    index: Index, facts: dict[str, Any], count: int, *, allowed: bool, synced: Synced | None = None
) -> None:
    """Raises InputError for inputs that cannot be read, in this run or before; says it where that is `allowed`."""
    from vitsmith.errors import InputError, shown_names

    told = []
    if failed := [one["id"] for one in facts["failed"]]:
        of = f"{len(failed):,} of {count:,} {index.space.kind}"
        if index.space.kind == "texts":
            told.append(f"{of} have no word that the model knows, and were skipped ({shown_names(failed)})")
        else:
            again = "run the same command with --retry"
            if synced is not None:
                again = "run the same command, which tries those again that have changed, and with --retry all"
            elif str(index.folder) != facts["out"]:
                again = f"delete {facts['out']} and run it again"
            told.append(f"{of} could not be read and were skipped ({shown_names(failed)}): repair them, and {again}")
    if kept := [name for name, _ in synced.kept_unreadable] if synced is not None else []:
        told.append(
            f"{len(kept):,} of {count:,} images cannot be read now, and keep the vectors that they had "
            f"({shown_names(kept)}): make them readable"
        )
    if told and not allowed:
        raise InputError("; ".join(told))
    for one in told:
        say(one)
