"""`vitsmith prune`: a smaller model cut from a trained one, behind the gate."""

from __future__ import annotations

from enum import StrEnum
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from vitsmith.cli.checkpoint import ImageSizeOption, open_model
from vitsmith.cli.data import ImageColumnOption, LabelColumnOption, labelled
from vitsmith.cli.held_out import WithoutSplitOption, reading_bar
from vitsmith.cli.images import SkipOption, expand
from vitsmith.cli.output import JsonOption, print_facts, print_json, print_table, progress, say
from vitsmith.cli.places import ForceOption, OutOption
from vitsmith.cli.train import SetOption

if TYPE_CHECKING:
    from vitsmith.compress.material import Material
    from vitsmith.compress.prune import Looked
    from vitsmith.compress.pruned import Pruned, Stage
    from vitsmith.data.datasets import DataSpec
    from vitsmith.train.events import Event
    from vitsmith.train.recipe import TrainRecipe
    from vitsmith.weights.bundle import Bundle


class How(StrEnum):
    """How what is left out is chosen."""

    taylor = "taylor"
    activation = "activation"


def prune(
    model: Annotated[str, typer.Argument(help="A trained classifier: bundle of torch weights, or checkpoint.")],
    data: Annotated[str, typer.Option(help="Labelled images: a folder, table, shards, hf:NAME or 'digits'.")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    images: Annotated[
        list[str] | None, typer.Option(help="In place of --data, images without labels; may be repeated.")
    ] = None,
    heads: Annotated[int | None, typer.Option(help="Heads that each block is left with.")] = None,
    mlp_width: Annotated[int | None, typer.Option(help="Hidden units that each MLP is left with.")] = None,
    tokens_mlp_width: Annotated[int | None, typer.Option(help="Of a Mixer: those of the MLPs across tokens.")] = None,
    depth: Annotated[int | None, typer.Option(help="Blocks that are left.")] = None,
    keep: Annotated[
        float | None, typer.Option(help="Share of the FLOPs that may be left; chooses evenly what is not said above.")
    ] = None,
    method: Annotated[How, typer.Option(help="Importance by taylor (of the loss) or by activation.")] = How.taylor,
    calibration: Annotated[int, typer.Option(min=1, help="Images that decide what is left out.")] = 256,
    steps: Annotated[int, typer.Option(min=0, help="Updates of the distillation; 0: none.")] = 300,
    batch: Annotated[int | None, typer.Option(min=1, help="Images an update; default: 64.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; default: by the model's width.")] = None,
    max_drop: Annotated[float, typer.Option(min=0, help="Points of top-1 (or agreement) it may lose.")] = 1.0,
    min_speedup: Annotated[float, typer.Option(min=0, help="Least gain in images/s, in batches of 16.")] = 1.05,
    image_size: ImageSizeOption = "",
    labels: Annotated[Path | None, typer.Option(help="Names of the model's classes, one a line.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides split, order and crops.")] = 0,
    set_: SetOption = None,
    skip_unreadable: SkipOption = 0.01,
    without_split: WithoutSplitOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Leave out heads, hidden units and blocks, distil, compare. If too much is lost, nothing is written (exit 3)."""
    from dataclasses import replace

    from vitsmith.compress.material import check_prunable
    from vitsmith.compress.prune import prune as run
    from vitsmith.compress.pruned import Demands, model_config, write_pruned
    from vitsmith.compress.sizes import Pruning, plan_sizes
    from vitsmith.errors import InputError
    from vitsmith.runs import model_name, place_of, write_or_rescue

    if bool(data) == bool(images):
        raise InputError("say what to prune by: labelled images with --data, or images without labels with --images")
    described = labelled(data, image_column, label_column)
    with place_of("prune", model_name(model), out, force=force) as place:
        bundle = open_model(model, image_size, labels=labels)
        wanted = Pruning(heads, mlp_width, tokens_mlp_width, depth, keep, method.value, calibration)
        check_prunable(bundle)
        plan_sizes(model_config(bundle), wanted)  # mistakes are told before an image is read
        given: dict[str, dict[str, Any]] = {
            "schedule": {"steps": steps},
            "batch": {"size": batch},
            "optimizer": {"lr": lr},
            "run": {"seed": seed},
            "data": {"skip_unreadable": skip_unreadable},
        }
        recipe = _recipe(bundle, data or "--images", given, set_ or [])
        material = _material(bundle, described, images or [], seed, skip_unreadable)
        for told in material.told:
            say(told)
        events: list[Event] = []
        with Progress(steps, events) as listener:
            demands = Demands(max_drop, min_speedup)
            pruned = run(bundle, material, wanted, recipe, demands, on_event=listener, on_stage=say)
        if without_split:
            pruned = replace(pruned, bundle=pruned.bundle.with_split(None))
        facts = pruned.to_dict()
        if not pruned.failures:
            written = write_or_rescue(place, partial(write_pruned, pruned, model_name(model), events=events))
            facts["written"] = str(written.folder)
    if json:
        print_json(facts)
    else:
        print_pruned(pruned, facts)
    pruned.require()


class Progress:
    """Shows on a terminal how far it is, and keeps what the distillation reports."""

    def __init__(self, steps: int, events: list[Event]) -> None:
        from vitsmith.cli.progress import TrainingProgress

        self._training, self._events = TrainingProgress(steps), events
        self._looking = progress(unit="images")
        self._looked = self._looking.add_task("looking", total=None, note="")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._looking.stop()
        self._training.stop()

    def __call__(self, event: Event | Looked) -> None:
        from vitsmith.compress.prune import Looked

        if isinstance(event, Looked):
            self._looking.start()
            self._looking.update(self._looked, total=event.total, advance=event.images)
            return
        if not self._events:
            self._looking.stop()
            self._training.start()
        self._events.append(event)
        self._training.on_event(event)


def print_pruned(pruned: Pruned, facts: dict[str, Any]) -> None:
    """A line for each stage, the speed before and after, and where the result is."""
    what = "top-1" if pruned.material.labelled else "agreement"
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
            ("judged on", facts["data"]),
            ("one image", f"{before.latency_ms:.2f} ms -> {after.latency_ms:.2f} ms ({single:.2f} times as fast)"),
            (
                f"batches of {after.batch}",
                f"{before.images_per_second:.1f} -> {after.images_per_second:.1f} images/s ({many:.2f} times as fast)",
            ),
            ("remark", speedup.remark),
            ("bundle", facts.get("written")),
        ]
    )


def _share(stage: Stage) -> str:
    low, high = stage.scores.top1_interval
    return f"{stage.scores.top1:.2%} ({low:.1%} to {high:.1%})"


def _material(bundle: Bundle, data: DataSpec, images: list[str], seed: int, skip: float) -> Material:
    from vitsmith.compress.material import labelled_material, unlabelled_material

    how: dict[str, Any] = {"seed": seed, "skip_unreadable": skip}
    with reading_bar() as on_images:
        if data.path:
            return labelled_material(bundle, data, on_images=on_images, tell=say, **how)
        return unlabelled_material(bundle, list(expand(images)), on_images=on_images, **how)


def _recipe(bundle: Bundle, data: str, given: dict[str, dict[str, Any]], settings: list[str]) -> TrainRecipe | None:
    """How it is distilled; None for no updates."""
    from vitsmith.cli.training import without_empty
    from vitsmith.compress.recovery import recovery_recipe
    from vitsmith.errors import InputError
    from vitsmith.train.recipe_file import parse_settings

    if not given["schedule"]["steps"]:
        if settings or without_empty({**given, "schedule": {}, "run": {}, "data": {}}):
            raise InputError(
                "--batch, --lr and --set are for the distillation, and --steps 0 has none: leave them away"
            )
        return None
    return recovery_recipe(bundle, data, without_empty(given), parse_settings(settings))
