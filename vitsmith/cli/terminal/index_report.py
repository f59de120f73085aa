"""Reports of `vitsmith embed`: what an index holds, what a sync found, and what was skipped."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import print_facts, print_json, say

if TYPE_CHECKING:
    from vitsmith.retrieval.index import Index
    from vitsmith.retrieval.sync.run import Synced


def report_index(index: Index, out: Path, before: int, cut: int, changed: list[str], json: bool) -> None:
    """What an index holds, and what was there `before`."""
    from vitsmith.retrieval.description import describe_numbers

    space, description = index.space, index.description
    if json:
        print_json(facts_of(index, out) | {"cut": cut, "done_before": before, "changed": len(changed)})
    else:
        went_on = f" ({before:,} were there before)" if before else ""
        print_facts(
            [
                (space.kind, f"{len(index):,}{went_on}"),
                ("skipped", description.failures or None),
                ("patches" if space.grid else "vectors", f"{describe_numbers(space)}, {space.dtype}"),
                ("model", f"{space.model}, {space.engine} {space.precision}"),
                ("written to", out),
            ]
        )


def facts_of(index: Index, out: Path) -> dict[str, Any]:
    """What --json says of an index."""
    space, description = index.space, index.description
    return {
        "out": str(out),
        "kind": space.kind,
        f"num_{space.kind}": len(index),
        "failures": description.failures,
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
        print_json(facts | synced.counts)
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


def tell_left_out(index: Index, out: Path, count: int, *, allowed: bool, synced: bool = False) -> None:
    """Raises InputError for inputs that were skipped; says it instead where that is `allowed`."""
    from vitsmith.errors import InputError

    failures = index.description.failures
    if not failures:
        return
    if index.space.kind == "texts":
        told = f"{failures} of {count} texts have no word that the model knows, and were skipped"
    else:
        again = "run the same command with --retry" if index.folder == out else f"delete {out} and run it again"
        if synced:
            again = "run the same command: those that have changed are tried again"
        told = f"{failures} of {count} images could not be read and were skipped: repair them, and {again}"
    if not allowed:
        raise InputError(told)
    say(told)
