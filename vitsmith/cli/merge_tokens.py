"""`vitsmith merge-tokens`: tokens that are alike become one, behind the gate."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import images_beside, labelled, open_model, reading_bar, tell_calibration
from vitsmith.cli.arguments.options import (
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    LabelsFileOption,
    OutOption,
    ReadAsOption,
    SkipOption,
    StrictGateOption,
    VocabularyOption,
    WithoutSplitOption,
    data_option,
    images_option,
    keep_option,
    max_drop_option,
    min_agreement_option,
    min_speedup_option,
    model_argument,
    seed_option,
    split_option,
)
from vitsmith.cli.terminal.compression_progress import CompressionProgress
from vitsmith.cli.terminal.output import lost_told, print_facts, print_json, print_table, say
from vitsmith.cli.terminal.pictures import put_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitsmith.compress.images import TaskImages
    from vitsmith.compress.merge_tokens.result import Merged
    from vitsmith.compress.merge_tokens.schedules import MergeTarget
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.weights.bundle.bundle import Bundle

SHOWN = 4
"""Images in the picture."""


class Schedule(StrEnum):
    """How merges are spread over the blocks."""

    constant = "constant"
    decreasing = "decreasing"
    searched = "searched"


def merge_tokens(
    model: Annotated[str, model_argument("ViT, hybrid or LiT with torch weights")],
    schedule: Annotated[
        Schedule, typer.Option(help="Merges per block: constant, decreasing, or searched by the loss of each block.")
    ] = Schedule.constant,
    keep: Annotated[float | None, keep_option("the smallest that passes the gate, from 0.5 up")] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens left after the last block, in place of --keep.")] = None,
    data: Annotated[str, data_option("accuracy on it decides")] = "",
    split: Annotated[str, split_option("val or test", "the held-out part")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    images: Annotated[list[str] | None, images_option("in place of --data")] = None,
    max_drop: Annotated[float | None, max_drop_option("on --data; default: 1.0")] = None,
    strict_gate: StrictGateOption = False,
    min_agreement: Annotated[float | None, min_agreement_option(0.98)] = None,
    min_speedup: Annotated[float, min_speedup_option("for one image or in batches of 16")] = 1.05,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    labels_file: LabelsFileOption = None,
    vocabulary: VocabularyOption = None,
    seed: Annotated[int, seed_option("the choice of search and evaluation images")] = 0,
    skip_unreadable: SkipOption = 0.01,
    without_split: WithoutSplitOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Merge similar tokens and compare. If answers change or no time is saved, nothing is written (exit 3)."""
    from vitsmith.compress.merge_tokens.result import REQUIRED
    from vitsmith.compress.merge_tokens.run import check_mergeable
    from vitsmith.compress.merge_tokens.run import merge as run
    from vitsmith.errors import InputError
    from vitsmith.gate import Requirements
    from vitsmith.runs.place import model_name, place_of
    from vitsmith.verbs.inputs import check_bounds

    if data and images:
        raise InputError("--data and --images both name the evaluation images: give one of them")
    asked = Requirements(accuracy_drop=max_drop, agreement=min_agreement, any_speedup=min_speedup, strict=strict_gate)
    check_bounds(asked, bool(data))
    described = labelled(data, image_column, label_column, split)
    target = _merge_target(schedule, keep, tokens)
    with place_of("merge-tokens", model_name(model), out, force=force) as place:
        sources = images_beside(described, images or [])
        bundle = open_model(model, image_size, read_as, labels=labels_file, headless=None, vocabulary=vocabulary)
        check_mergeable(bundle)
        tell_calibration(bundle, kept=False)
        task_images = _images(bundle, described, split, sources, seed, skip_unreadable)
        for remark in task_images.remarks:
            say(remark)
        if without_split:
            bundle = bundle.with_split(None)
        with CompressionProgress() as listener:
            merged = run(bundle, target, task_images, REQUIRED.with_changes(asked), listener=listener)
        facts = merged.to_dict() | _write(merged, place)
    for doubt in merged.doubts:
        say(doubt)
    if json:
        print_json(facts)
    else:
        print_merged(merged, facts)
    merged.require()


def _merge_target(schedule: Schedule, keep: float | None, tokens: int | None) -> MergeTarget:
    """The target that the options set. Raises InputError for two targets, and for one that merges nothing."""
    from vitsmith.compress.merge_tokens.schedules import MergeTarget
    from vitsmith.errors import InputError

    if keep is not None and tokens is not None:
        raise InputError("--keep and --tokens both say how much is merged: give one of them")
    if keep is not None and not 0 < keep < 1:
        raise InputError(f"--keep is the share of the FLOPs that is left, between 0 and 1, got {keep:g}")
    return MergeTarget(schedule.value, None if keep is None else 1 / keep, tokens)


def _write(merged: Merged, place: Path) -> dict[str, Any]:
    """Writes the model if it passed its gate, and its picture; returns where they are."""
    from vitsmith.compress.merge_tokens.result import PICTURE, write_merged
    from vitsmith.runs.place import write_or_rescue

    if merged.failures:
        return {}
    written = write_or_rescue(place, partial(write_merged, merged))
    return {"written": str(written.folder), "picture": _draw(merged, place / PICTURE)}


def print_merged(merged: Merged, facts: dict[str, Any]) -> None:
    """Prints a line for each schedule that was tried, the speed before and after, and where the result is."""
    from vitsmith.compress.merge_tokens.schedules import describe

    columns = ["merged by each block", "tokens left", "GFLOPs", "FLOPs left", merged.what]
    labelled = merged.images.labels is not None
    rows = [
        (
            describe(one.numbers),
            one.tokens,
            f"{one.gflops:.3g}",
            f"{1 / one.ratio:.0%}",
            f"{one.agreement:.2%}",
            *(
                (f"{one.accuracy.before:.2%} -> {one.accuracy.after:.2%}", lost_told(one.accuracy))
                if one.accuracy
                else ()
            ),
        )
        for one in merged.tries
    ]
    columns += ["top-1", "points lost (95% interval)"] if labelled else []
    print_table(columns, rows, right=columns[1:])
    places = [("bundle", facts.get("written")), ("picture", facts.get("picture"))]
    print_facts([("evaluated on", facts["data"]), *_speed(merged), *places])


def _speed(merged: Merged) -> list[tuple[str, str]]:
    speedup = merged.speedup
    if speedup is None:
        return []
    before, after = speedup.before, speedup.after
    single, batches = merged.break_even
    return [
        ("one image", f"{before.latency_ms:.2f} ms -> {after.latency_ms:.2f} ms ({speedup.single:.2f}x)"),
        (
            f"batches of {after.batch}",
            f"{before.images_per_second:.1f} -> {after.images_per_second:.1f} images/s ({speedup.batches:.2f}x)",
        ),
        ("remark", speedup.remark),
        (
            "break-even",
            f"merging pays {_from(single)} for one image, {_from(batches)} in batches",
        ),
    ]


def _from(needed: float) -> str:
    return f"when at most {1 / needed:.0%} of the FLOPs are left" if needed != float("inf") else "never"


def _images(
    bundle: Bundle, data: DataSpec, split: str, images: list[ImageSource], seed: int, skip: float
) -> TaskImages:
    from vitsmith.compress.images import Amounts, labelled_images, unlabelled_images
    from vitsmith.compress.merge_tokens.run import sample_photos

    how: dict[str, Any] = {"amounts": Amounts(seed=seed), "skip_unreadable": skip}
    if data.path:
        with reading_bar() as on_images:
            return labelled_images(bundle, data, split, on_images=on_images, tell=say, **how)
    if images:
        return unlabelled_images(bundle, images, **how)
    say("no images are given: the gate uses sample photographs, which may be unlike yours; give --data or --images")
    return sample_photos(bundle)


def _draw(merged: Merged, path: Path) -> str | None:
    """The picture of the first evaluation images; None, and a remark, where it cannot be made."""
    from vitsmith.data.images.read import read_image
    from vitsmith.report.merging import draw_merging

    def draw() -> Figure:
        evaluation = merged.images.evaluation.sources[:SHOWN]
        return draw_merging(merged.bundle, [read_image(source) for source in evaluation])

    return str(path) if put_picture(path, "the picture of which patches merged", draw) else None
