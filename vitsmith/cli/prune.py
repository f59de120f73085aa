"""`vitsmith prune`: a smaller model cut from a trained one, behind the gate."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
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
    RateOption,
    ReadAsOption,
    SetOption,
    SkipOption,
    StrictGateOption,
    WithoutSplitOption,
    calibration_option,
    data_option,
    images_option,
    keep_option,
    max_drop_option,
    min_agreement_option,
    min_speedup_option,
    model_argument,
    seed_option,
)
from vitsmith.cli.terminal.compression_progress import CompressionProgress
from vitsmith.cli.terminal.output import drop_told, print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from vitsmith.compress.images import TaskImages
    from vitsmith.compress.prune.result import Pruned, PruningStage
    from vitsmith.compress.prune.sizes import Pruning
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.gate import Requirements
    from vitsmith.training.monitor.events import Event
    from vitsmith.training.recipes.recipe import TrainRecipe
    from vitsmith.weights.bundle.bundle import Bundle


class How(StrEnum):
    """The measure of importance by which parts are removed."""

    taylor = "taylor"
    activation = "activation"


def prune(
    model: Annotated[str, model_argument("Trained classifier with torch weights")],
    data: Annotated[str, data_option("used to rank what is removed, to distil and to evaluate")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    images: Annotated[list[str] | None, images_option("in place of --data")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads kept in each block.")] = None,
    mlp_width: Annotated[int | None, typer.Option(help="Hidden units kept in each MLP.")] = None,
    tokens_mlp_width: Annotated[
        int | None, typer.Option(help="Mixer only: hidden units kept in each token-mixing MLP.")
    ] = None,
    depth: Annotated[int | None, typer.Option(help="Blocks kept.")] = None,
    keep: Annotated[float | None, keep_option("what the sizes above give")] = None,
    method: Annotated[
        How, typer.Option(help="Measure of importance: taylor (change of the loss) or activation.")
    ] = How.taylor,
    calibration: Annotated[int, calibration_option("they rank what is removed")] = 256,
    steps: Annotated[int, typer.Option(min=0, help="Updates of distillation after pruning; 0: none.")] = 300,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Images per update; default: 64.")] = None,
    lr: RateOption = None,
    max_drop: Annotated[float | None, max_drop_option("on --data; default: 1.0")] = None,
    strict_gate: StrictGateOption = False,
    min_agreement: Annotated[float | None, min_agreement_option(0.99)] = None,
    min_speedup: Annotated[float, min_speedup_option("in batches of 16")] = 1.05,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    labels_file: LabelsFileOption = None,
    seed: Annotated[int, seed_option("split, order and crops")] = 0,
    set_: SetOption = None,
    skip_unreadable: SkipOption = 0.01,
    without_split: WithoutSplitOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Remove heads, hidden units and blocks, distil, compare. If too much is lost, nothing is written (exit 3)."""
    from vitsmith.compress.prune.result import REQUIRED, model_config
    from vitsmith.compress.prune.run import check_prunable
    from vitsmith.compress.prune.sizes import Pruning, plan_sizes
    from vitsmith.errors import InputError
    from vitsmith.gate import Requirements
    from vitsmith.runs.place import model_name, place_of
    from vitsmith.verbs.inputs import check_bounds
    from vitsmith.verbs.recipe import common_fields

    if bool(data) == bool(images):
        raise InputError("pruning needs images: give labelled ones with --data, or images without labels with --images")
    asked = Requirements(accuracy_drop=max_drop, agreement=min_agreement, speedup=min_speedup, strict=strict_gate)
    check_bounds(asked, bool(data))
    described = labelled(data, image_column, label_column)
    with place_of("prune", model_name(model), out, force=force) as place:
        sources = images_beside(described, images or [])
        bundle = open_model(model, image_size, read_as, labels=labels_file)
        wanted = Pruning(heads, mlp_width, tokens_mlp_width, depth, keep, method.value, calibration)
        check_prunable(bundle)
        tell_calibration(bundle, kept=False)
        plan_sizes(model_config(bundle), wanted)  # mistakes are told before an image is read
        given = common_fields(data="", steps=steps, batch_size=batch_size, lr=lr, seed=seed)
        given["data"] = {"skip_unreadable": skip_unreadable}
        recipe = _recipe(bundle, data or "--images", given, set_ or [])
        task_images = _images(bundle, described, sources, seed, skip_unreadable)
        required = REQUIRED.with_changes(asked)
        pruned, events = _prune(bundle, task_images, wanted, recipe, required, steps=steps, without_split=without_split)
        facts = pruned.to_dict() | _write(pruned, events, place)
    for doubt in pruned.doubts:
        say(doubt)
    if json:
        print_json(facts)
    else:
        print_pruned(pruned, facts)
    pruned.require()


def _prune(
    bundle: Bundle,
    images: TaskImages,
    wanted: Pruning,
    recipe: TrainRecipe | None,
    required: Requirements,
    *,
    steps: int,
    without_split: bool,
) -> tuple[Pruned, list[Event]]:
    """The smaller model, under bars, and what its distillation reported."""
    from vitsmith.cli.terminal.training_progress import TrainingProgress
    from vitsmith.compress.prune.run import prune as run

    for told in images.told:
        say(told)
    events: list[Event] = []
    with CompressionProgress(unit="images") as listener, ExitStack() as stack:
        distillation = TrainingProgress(steps)

        def on_event(event: Event) -> None:
            if not events:
                listener.stop()
                stack.enter_context(distillation)
            events.append(event)
            distillation.on_event(event)

        pruned = run(bundle, images, wanted, recipe, required, listener=listener, on_event=on_event)
    if without_split:
        pruned = replace(pruned, bundle=pruned.bundle.with_split(None))
    return pruned, events


def _write(pruned: Pruned, events: list[Event], place: Path) -> dict[str, Any]:
    """Writes the model if it passed its gate; returns where."""
    from vitsmith.compress.prune.result import write_pruned
    from vitsmith.runs.place import write_or_rescue

    if pruned.failures:
        return {}
    written = write_or_rescue(place, partial(write_pruned, pruned, events=events))
    return {"written": str(written.folder)}


def print_pruned(pruned: Pruned, facts: dict[str, Any]) -> None:
    """Prints a line for each stage, the speed before and after, and where the result is."""
    what = "top-1" if pruned.images.labelled else "agreement"
    rows = [
        (stage.name, f"{stage.parameters / 1e6:.2f} M", f"{stage.gflops:.3g}", f"{stage.mib:.1f} MiB", _share(stage))
        for stage in pruned.stages
    ]
    columns = ("stage", "parameters", "GFLOPs", "size", what)
    print_table(columns, rows, right=columns[1:])
    speedup = pruned.speedup
    before, after, single, many = speedup.before, speedup.after, speedup.single, speedup.batches
    print_facts(
        [
            ("changed", facts["changed"]),
            ("evaluated on", facts["data"]),
            ("drop of top-1", drop_told(facts) if pruned.accuracy else None),
            ("one image", f"{before.latency_ms:.2f} ms -> {after.latency_ms:.2f} ms ({single:.2f} times as fast)"),
            (
                f"batches of {after.batch}",
                f"{before.images_per_second:.1f} -> {after.images_per_second:.1f} images/s ({many:.2f} times as fast)",
            ),
            ("remark", speedup.remark),
            ("bundle", facts.get("written")),
        ]
    )


def _share(stage: PruningStage) -> str:
    low, high = stage.scores.top1_interval
    return f"{stage.scores.top1:.2%} ({low:.1%} to {high:.1%})"


def _images(bundle: Bundle, data: DataSpec, images: list[ImageSource], seed: int, skip: float) -> TaskImages:
    from vitsmith.compress.images import labelled_training_images, unlabelled_training_images

    how: dict[str, Any] = {"seed": seed, "skip_unreadable": skip}
    with reading_bar() as on_images:
        if data.path:
            return labelled_training_images(bundle, data, on_images=on_images, tell=say, **how)
        return unlabelled_training_images(bundle, images, on_images=on_images, **how)


def _recipe(bundle: Bundle, data: str, given: dict[str, dict[str, Any]], settings: list[str]) -> TrainRecipe | None:
    """The recipe of the distillation; None for no updates."""
    from vitsmith.compress.prune.distill import recovery_recipe
    from vitsmith.errors import InputError
    from vitsmith.training.recipes.file import parse_settings
    from vitsmith.verbs.recipe import without_empty

    if not given["schedule"]["steps"]:
        if settings or without_empty({**given, "schedule": {}, "run": {}, "data": {}}):
            raise InputError(
                "--batch-size, --lr and --set are for the distillation, and --steps 0 has none: leave them out"
            )
        return None
    return recovery_recipe(bundle, data, without_empty(given), parse_settings(settings))
