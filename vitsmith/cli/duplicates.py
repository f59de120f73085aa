"""`vitsmith duplicates`: the same image twice, and images that look alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.amounts import bytes_text
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
from vitsmith.cli.terminal.output import print_facts, print_json, print_line, say
from vitsmith.cli.terminal.sorting import absolute, show_sheet, steps, tell_unreadable

if TYPE_CHECKING:
    from vitsmith.sorting.duplicates import Duplicate, DuplicateGroup, Duplicates


def duplicates(
    places: PlacesArgument,
    model: PlacesModelOption = "",
    threshold: Annotated[
        float, typer.Option(help="Least cosine of images that look alike; depends on the model.")
    ] = 0.97,
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
    """Find exact copies by content, and near duplicates by features. Nothing is deleted or moved.

    Each image of a group is near its first, the one to keep: the largest, then the oldest. Without a model or an index
    only exact copies are found. Unreadable images are skipped, and make the exit code 2.
    """
    from vitsmith.sorting.duplicates import check_threshold, find_duplicates
    from vitsmith.sorting.places import Gathering, open_places
    from vitsmith.sorting.sheets import check_pictures, check_sheet, write_duplicates

    check_threshold(threshold)
    if sheet is not None:
        check_sheet(sheet)
    reading = {"image_size": image_size, "read_as": read_as, "vocabulary": vocabulary}
    opener = opener_of(model, engine=engine, precision=precision, batch_size=batch_size, reading=reading)
    with steps() as on_step:
        opened = open_places(places_of(places), Gathering(opener, model, skip_unreadable, say, on_step))
        if sheet is not None:
            check_pictures(opened.kind)
        found = find_duplicates(opened.embed(), threshold, tell=say, on_step=on_step)
    if found.threshold is None:
        say("only exact copies were looked for: give --model, or an index made by  vitsmith embed , for near ones too")
    if json:
        print_json(_plain(found))
    else:
        _print(found)
    if sheet is not None:
        show_sheet(sheet, lambda on_picture: write_duplicates(sheet, found, on_picture))
    tell_unreadable(found.unreadable)


def _plain(found: Duplicates) -> dict[str, Any]:
    return {
        "groups": [
            {"keep": group.keep.name, "members": [_member(one) for one in group.members]} for group in found.groups
        ],
        "kind": found.kind,
        "count": found.count,
        "copies": found.copies,
        "copied_bytes": found.copied_bytes,
        "threshold": found.threshold,
        "random_pairs": found.random_pairs,
        "model": found.model or None,
        "unreadable": [{"name": name, "error": reason} for name, reason in found.unreadable],
    }


def _member(one: Duplicate) -> dict[str, Any]:
    width, height = one.pixels
    return {
        "name": one.name,
        "path": absolute(one.path),
        "score": round(one.score, 6),
        "exact": one.exact,
        "bytes": one.size,
        "width": width or None,
        "height": height or None,
    }


def _print(found: Duplicates) -> None:
    for group in found.groups:
        _print_group(group, found.kind)
    near = sum(any(not one.exact for one in group.others) for group in found.groups)
    print_facts(
        [
            (found.kind, f"{found.count:,}"),
            ("groups", f"{len(found.groups):,}" + (f", {near:,} with near ones" if near else "")),
            (
                "exact copies",
                f"{found.copies:,}, which take {bytes_text(found.copied_bytes)}" if found.copies else "none",
            ),
            ("near from", found.threshold and f"a cosine of {found.threshold:g}, {_meaning(found)}"),
            ("model", found.model),
            ("unreadable", len(found.unreadable) or None),
        ]
    )


def _meaning(found: Duplicates) -> str:
    """What the threshold means here."""
    if found.random_pairs is None:
        return "which depends on the model"
    return f"which {found.random_pairs:.2%} of all pairs have"


def _print_group(group: DuplicateGroup, kind: str) -> None:
    for one in group.members:
        what = "keep" if one is group.keep else "exact" if one.exact else f"{one.score:.4f}"
        width, height = one.pixels
        facts = f"{f'{width}x{height}' if width else '':>11} {bytes_text(one.size):>9}  " if kind == "images" else ""
        print_line(f"{what:<6}  {facts}{one.name}")
    print_line()
