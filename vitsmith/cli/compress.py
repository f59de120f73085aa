"""`vitsmith compress`: the search for a program that costs less and is still right."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.amounts import mebibytes, milliseconds
from vitsmith.cli.arguments.inputs import images_beside, labelled, open_model, reading_bar, tell_unreadable
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
    TorchModelArgument,
    WithoutSplitOption,
    data_option,
    limit_option,
    max_drop_option,
    seed_option,
)
from vitsmith.cli.terminal.compression_progress import CompressionProgress
from vitsmith.cli.terminal.output import drop_told, lost_told, print_facts, print_json, print_table, say
from vitsmith.cli.terminal.pictures import put_picture
from vitsmith.needs_torch import require_torch

if TYPE_CHECKING:
    from vitsmith.compress.images import TaskImages
    from vitsmith.compress.search.result import SearchResult
    from vitsmith.compress.search.run import SearchSpace
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.weights.bundle.bundle import Bundle

KINDS = "resolution,pruning,merging,precision"


class ChoiceRule(StrEnum):
    """The rule by which one of the programs within the budget is chosen."""

    cheapest = "cheapest"
    accurate = "accurate"
    knee = "knee"


def compress(
    model: TorchModelArgument,
    data: Annotated[
        str, data_option("training images for calibration and distillation, held-out images for evaluation")
    ],
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    latency: Annotated[
        str, typer.Option(help="Longest time of one image from bytes to answer, 95th percentile, as 20ms.")
    ] = "",
    memory: Annotated[str, typer.Option(help="Largest peak memory, as 300MiB or 300MB.")] = "",
    size: Annotated[str, typer.Option(help="Largest program, as 90MB or 90MiB.")] = "",
    max_drop: Annotated[float, max_drop_option()] = 1.0,
    strict_gate: StrictGateOption = False,
    choose: Annotated[
        ChoiceRule | None,
        typer.Option(
            help="cheapest, accurate, or knee: the point of the Pareto front after which more speed costs much "
            "accuracy; default: cheapest within a budget, else knee."
        ),
    ] = None,
    over: Annotated[
        str,
        typer.Option(help="What to search over: resolution, pruning, merging, precision.", show_default="all four"),
    ] = KINDS,
    steps: Annotated[int, typer.Option(min=0, help="Updates of distillation for each pruned model.")] = 300,
    limit: Annotated[int, limit_option(40)] = 1000,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    labels_file: LabelsFileOption = None,
    seed: Annotated[int, seed_option("the split and the distillation")] = 0,
    skip_unreadable: SkipOption = 0.01,
    without_split: WithoutSplitOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Search over resolution, pruning, merging and precision; write the program that meets the budget (else exit 3)."""
    require_torch("export")
    from vitsmith.compress.search.run import search
    from vitsmith.compress.search.variants import TorchVariantMaker
    from vitsmith.files.atomic import scratch
    from vitsmith.gate import Requirements
    from vitsmith.report.front import draw_front
    from vitsmith.runs.place import model_name, place_of

    required = Requirements(
        accuracy_drop=max_drop,
        latency_ms=milliseconds("--latency", latency),
        memory_mib=mebibytes("--memory", memory),
        size_mib=mebibytes("--size", size),
        strict=strict_gate,
    )
    bounded = bool(latency or memory or size)
    space = _space(over)
    described = labelled(data, image_column, label_column)
    chosen = choose or (ChoiceRule.cheapest if bounded else ChoiceRule.knee)
    with place_of("compress", model_name(model), out, force=force) as folder, scratch("search") as programs:
        images_beside(described, [])
        bundle = open_model(model, image_size, read_as, labels=labels_file)
        images = _images(bundle, described, limit, seed, skip_unreadable)
        variant_maker = TorchVariantMaker(
            bundle, images, data, max_drop=max_drop, steps=steps, seed=seed, tell=tell_unreadable
        )
        with CompressionProgress() as listener:
            found = search(bundle, images, space, required, chosen.value, variant_maker, programs, listener)
        folder = _keep(found, folder, model_name(model), without_split)
    put_picture(folder / "front.png", "the plot of the front", lambda: draw_front(found))
    for doubt in found.doubts:
        say(doubt)
    if json:
        print_json(found.to_dict() | {"folder": str(folder)})
    else:
        _print(found)
        say(f"table, plot and numbers are in {folder}")
    found.require()
    if not json:
        _print_chosen(found, folder)


def _images(bundle: Bundle, data: DataSpec, limit: int, seed: int, skip: float) -> TaskImages:
    """Images for calibration and distillation, and at most `limit` for evaluation."""
    from vitsmith.compress.images import labelled_training_images, spread
    from vitsmith.compress.prune.run import check_prunable

    check_prunable(bundle)  # before an image is read

    with reading_bar() as on_images:
        images = labelled_training_images(bundle, data, seed=seed, skip_unreadable=skip, on_images=on_images, tell=say)
    for told in images.told:
        say(told)
    return replace(images, evaluation=spread(images.evaluation, limit))


def _print_chosen(found: SearchResult, folder: Path) -> None:
    assert found.chosen is not None and found.verified is not None
    print_facts(
        [
            ("written", folder / "model"),
            ("chosen", f"{found.chosen.title} ({found.chosen.engine})"),
            (
                "verified",
                f"{found.verified.after:.2%}, the original {found.verified.before:.2%}, on the verification split, "
                "not used for selection",
            ),
            ("drop of top-1", drop_told(found.verified.to_dict())),
        ]
    )


def _keep(found: SearchResult, folder: Path, name: str, without_split: bool) -> Path:
    """Writes the search and returns where. One that found nothing never replaces a model that was found earlier."""
    from vitsmith.runs.place import place_of, write_or_rescue

    with ExitStack() as stack:
        if not found.holds and (folder / "model").is_dir():
            say(f"the earlier run in {folder} stays as it is: it has a model, and this one has none")
            folder = stack.enter_context(place_of("compress", name, None))
        write_or_rescue(folder, partial(_write, found, without_split))
    return folder


def _write(found: SearchResult, without_split: bool, place: Path) -> None:
    from vitsmith.runs.run import whole_run
    from vitsmith.weights.bundle.folder import copy_programs, write_bundle

    with whole_run(place) as run:
        run.write_json("compress.json", found.to_dict())
        if found.holds:
            made = found.verified_bundle()
            kept = made.with_split(None) if without_split else made
            write_bundle(kept, run.folder / "model", write_program=partial(copy_programs, made.place))


def _print(found: SearchResult) -> None:
    on_front = found.front
    candidates = sorted(found.candidates, key=lambda one: one.latency_ms)
    rows = [
        (
            one.name,
            one.precision,
            one.engine,
            f"{one.top1:.2%}",
            lost_told(one.accuracy),
            f"{one.answer_ms:.3g}",
            f"{one.latency_ms:.3g}",
            f"{one.memory_mib:.0f}",
            f"{one.size_mib:.3g}",
            "chosen" if one is found.chosen else "front" if one in on_front else "",
        )
        for one in candidates
    ]
    numbers = ("top-1", "points lost (95% interval)", "p95 ms", "median ms", "memory MiB", "size MiB")
    print_table(("model", "precision", "engine", *numbers, "verdict"), rows, right=numbers)
    outside = [(one.name, one.precision, "; ".join(why)) for one in candidates if (why := found.objections(one))]
    if outside:
        print_table(("not within the budget", "precision", "why"), outside)
    for one in found.refused:
        say(f"not measured: {one.title}: {one.reason}")


def _space(over: str) -> SearchSpace:
    """The search space with only the kinds of change in `over`. Raises UnknownNameError."""
    from vitsmith.compress.search.run import SearchSpace
    from vitsmith.errors import UnknownNameError

    kinds = [kind.strip() for kind in over.split(",") if kind.strip()]
    for kind in kinds:
        if kind not in KINDS.split(","):
            raise UnknownNameError("kind of change", kind, KINDS.split(","))
    usual = SearchSpace()
    return SearchSpace(
        resolutions=usual.resolutions if "resolution" in kinds else (),
        keeps=usual.keeps if "pruning" in kinds else (),
        merges=usual.merges if "merging" in kinds else (),
        precisions=usual.precisions if "precision" in kinds else ("fp32",),
    )
