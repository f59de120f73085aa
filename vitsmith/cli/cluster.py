"""`vitsmith cluster`: groups of images that are alike, with names where the model reads text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.options import (
    BatchSizeOption,
    EngineOption,
    ImageSizeOption,
    JsonOption,
    PrecisionOption,
    ReadAsOption,
    SkipAllOption,
    VocabularyOption,
    sheet_option,
)
from vitsmith.cli.arguments.places import PlacesArgument, PlacesModelOption, opener_of, places_of
from vitsmith.cli.arguments.texts import read_labels
from vitsmith.cli.terminal.output import print_facts, print_json, print_table, say
from vitsmith.cli.terminal.sorting import absolute, show_sheet, steps, tell_unreadable

if TYPE_CHECKING:
    from vitsmith.sorting.clusters import Cluster, Clusters

_CENTRAL = 3  # names in the table


def cluster(
    places: PlacesArgument,
    model: PlacesModelOption = "",
    min_size: Annotated[int, typer.Option(min=2, help="Size of the smallest group.")] = 5,
    labels: Annotated[
        list[str] | None,
        typer.Option(
            help="Labels to name groups with, separated by commas; may be repeated. Default: the classes of ImageNet."
        ),
    ] = None,
    labels_file: Annotated[Path | None, typer.Option(help="File with one label a line, in place of --labels.")] = None,
    no_names: Annotated[bool, typer.Option("--no-names", help="Leave the groups without names.")] = False,
    out: Annotated[Path | None, typer.Option(help="A .csv file to write: each image with its group.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace --out, if it is there.")] = False,
    sheet: Annotated[Path | None, sheet_option("the groups")] = None,
    json: JsonOption = False,
    batch_size: BatchSizeOption = 32,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    vocabulary: VocabularyOption = None,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    skip_unreadable: SkipAllOption = None,
) -> None:
    """Group images (or texts) that are alike by HDBSCAN, which finds how many groups there are.

    What lies in no dense place is not grouped. Unreadable images are skipped, and make the exit code 2.
    """
    from vitsmith.errors import InputError
    from vitsmith.sorting.cluster_names import open_namer
    from vitsmith.sorting.clusters import check_clusterable, find_clusters, scikit_learn
    from vitsmith.sorting.places import Gathering, open_places
    from vitsmith.sorting.sheets import check_pictures, check_sheet, write_clusters
    from vitsmith.sorting.table import check_table, write_table

    scikit_learn()
    words = read_labels(labels, labels_file)
    if words is not None and no_names:
        raise InputError("--no-names leaves groups without names, and labels are given: leave one of them out")
    if out is None and force:
        raise InputError("--force replaces what an earlier --out wrote: give --out too")
    if out is not None:
        check_table(out, force=force)
    if sheet is not None:
        check_sheet(sheet)
    reading = {"image_size": image_size, "read_as": read_as, "vocabulary": vocabulary}
    opener = opener_of(model, engine=engine, precision=precision, batch_size=batch_size, reading=reading)
    with steps() as on_step:
        opened = open_places(places_of(places), Gathering(opener, model, skip_unreadable, say, on_step))
        if sheet is not None:
            check_pictures(opened.kind)
        check_clusterable(opened, min_size)
        namer = open_namer(opened, words, say, on_step) if not no_names else None
        found = find_clusters(opened.embed(), min_size, namer=namer, tell=say)
    if out is not None:
        write_table(out, found)
    if json:
        print_json(_plain(found))
    else:
        _print(found, out)
    if not found.groups:
        less = "" if min_size == 2 else "a smaller --min-size, or "
        say(f"no groups of {min_size} or more stand out from the rest: try {less}more {found.kind}")
    if sheet is not None:
        show_sheet(sheet, lambda on_picture: write_clusters(sheet, found, on_picture))
    tell_unreadable(found.unreadable)


def _plain(found: Clusters) -> dict[str, Any]:
    return {
        "groups": [_group(number, group) for number, group in enumerate(found.groups, 1)],
        "not_grouped": [
            {"name": name, "path": absolute(path)}
            for name, path in zip(found.not_grouped, found.not_grouped_paths, strict=True)
        ],
        "kind": found.kind,
        "count": found.count,
        "model": found.model,
        "components": found.components,
        "variance": round(found.variance, 4),
        "unreadable": [{"name": name, "error": reason} for name, reason in found.unreadable],
    }


def _group(number: int, group: Cluster) -> dict[str, Any]:
    return {
        "group": number,
        "size": len(group),
        "name": group.name or None,
        "share": round(group.share, 4) if group.name else None,
        "members": [
            {"name": name, "path": absolute(path), "score": round(score, 6)}
            for name, path, score in zip(group.members, group.paths, group.scores, strict=True)
        ],
    }


def _print(found: Clusters, out: Path | None) -> None:
    from vitsmith.predict import show_probability

    variance = show_probability(found.variance)
    named = any(group.name for group in found.groups)
    columns = ("group", "size", *(("name", "share") if named else ()), "most central")
    rows = [
        (number, f"{len(group):,}", *_named(group, named), ", ".join(group.members[:_CENTRAL]))
        for number, group in enumerate(found.groups, 1)
    ]
    if rows:
        print_table(columns, rows, right=("group", "size", "share"))
    print_facts(
        [
            (found.kind, f"{found.count:,}"),
            ("groups", f"{len(found.groups):,}"),
            ("not grouped", f"{len(found.not_grouped):,}"),
            ("found in", f"{found.components} principal components, with {variance} of the variance"),
            ("model", found.model),
            ("unreadable", len(found.unreadable) or None),
            ("written to", out),
        ]
    )


def _named(group: Cluster, named: bool) -> tuple[str, ...]:
    return (group.name, f"{group.share:.0%}" if group.name else "") if named else ()
