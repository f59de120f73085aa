"""Reports of `vitsmith embed`: what an index holds, what a sync found, and what was skipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import print_facts, print_json, say

if TYPE_CHECKING:
    from vitsmith.retrieval.description import Description
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.sync.options import Synced


def report_index(index: Index, facts: dict[str, Any], before: Description, json: bool) -> None:
    """What an index holds, of which `facts` are what --json says; `before` describes it as it was."""
    from vitsmith.retrieval.description import describe_numbers

    space, description = index.space, index.description
    if json:
        print_json(facts | {"done_before": before.inputs})
    else:
        went_on = f" ({before.count:,} {_was(before.count)} there before)" if before.count else ""
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

    space, files = index.space, len(index) + synced.copies
    if json:
        print_json(facts | synced.counts | _details(synced))
        return
    shown = [(name, f"{count:,}" if count else None) for name, count in synced.counts.items()]
    print_facts(
        [
            (space.kind, f"{len(index):,}" + (f" for {files:,} files" if synced.copies else "")),
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
    from vitsmith.errors import InputError, counted, shown_names

    told = []
    all_of_them = counted(count, index.space.kind.removesuffix("s"))
    if failed := [one["id"] for one in facts["failed"]]:
        one, names = len(failed) == 1, shown_names(failed)
        of, were = f"{len(failed):,} of {all_of_them}", _was(len(failed))
        if index.space.kind == "texts":
            have = "has" if one else "have"
            told.append(f"{of} {have} no word that the model knows, and {were} skipped ({names})")
        else:
            again = "run the same command with --retry"
            if synced is not None:
                again = "run the same command, which tries those again that have changed, and with --retry all"
            elif str(index.folder) != facts["out"]:
                again = f"delete {facts['out']} and run it again"
            them = "it" if one else "them"
            told.append(f"{of} could not be read and {were} skipped ({names}): repair {them}, and {again}")
    if kept := [name for name, _ in synced.kept_unreadable] if synced is not None else []:
        keep, them = ("keeps the vector that it had", "it") if len(kept) == 1 else ("keep the vectors they had", "them")
        told.append(
            f"{len(kept):,} of {all_of_them} cannot be read now, and {keep} ({shown_names(kept)}): make {them} readable"
        )
    if told and not allowed:
        raise InputError("; ".join(told))
    for line in told:
        say(line)


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
