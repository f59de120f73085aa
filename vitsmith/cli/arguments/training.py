"""What `vitsmith train` and `vitsmith distill` share: from options to a recipe, and from a recipe to a bundle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.cli.terminal.output import beside, print_json, print_line, progress, say
from vitsmith.escapes import shell_quoted

if TYPE_CHECKING:
    from vitsmith.training.forecast import TrainingPlan
    from vitsmith.training.images.run import Trained
    from vitsmith.training.recipes.recipe import TrainRecipe


def check_resumed_in_place(folder: Path, out: Path | None, *, force: bool) -> None:
    """Raises InputError when a run that is resumed is given another place."""
    from vitsmith.errors import InputError

    if out is not None or force:
        raise InputError(f"a run is resumed in its own folder, {folder}: leave --out and --force out")


def check_not_planned(folder: Path, *, plan: bool) -> None:
    """Raises InputError for a plan of a run that is resumed."""
    from vitsmith.errors import InputError

    if plan:
        raise InputError(f"a plan is of a new run, and {folder} is resumed: leave --plan or --resume out")


def recipe_from(name: str, given: dict[str, Any], settings: Sequence[str]) -> TrainRecipe:
    """The recipe called `name`, with the given options and then every --set applied."""
    from vitsmith.training.recipes.file import merge, parse_settings
    from vitsmith.verbs.recipe import make_recipe, without_empty

    return make_recipe(name, merge(without_empty(given), parse_settings(settings)))


def begin(verb: str, recipe: TrainRecipe, out: Path | None, *, force: bool = False, json: bool = False) -> None:
    """A new run, from its data to what is printed at its end."""
    from vitsmith.cli.terminal.training_progress import TrainingDisplay
    from vitsmith.training.images.run import train_to_bundle
    from vitsmith.verbs.new_run import new_run

    with new_run(verb, recipe, out, force=force, tell=say) as begun:
        shown = TrainingDisplay(begun.recipe, begun.devices, begun.folder)
        if begun.recipe.run.tensorboard:
            shown.write_tensorboard(0)
        shown.say(_describe(begun.data))
        with shown:
            trained = train_to_bundle(
                begun.recipe,
                begun.data,
                begun.run,
                devices=begun.devices,
                on_event=shown.on_event,
                on_start=shown.say,
            )
        if begun.folder is not None:
            _finish(trained, begun.folder, begun.data, json=json)


def plan(verb: str, recipe: TrainRecipe, out: Path | None, *, force: bool = False, json: bool = False) -> None:
    """The plan of a new run, printed; nothing is written."""
    from vitsmith.training.images.plan import plan_images
    from vitsmith.verbs.new_run import run_to_plan

    with run_to_plan(verb, recipe, out, force=force, tell=say) as begun:
        tell = say if begun.devices.main else lambda _: None
        with progress(unit="updates") as bar:

            def on_updates(count: int) -> Callable[[], object]:
                task = bar.add_task("measuring updates", total=count, note="")
                return lambda: bar.update(task, advance=1)

            planned = plan_images(
                begun.recipe, begun.data, devices=begun.devices, folder=out, tell=tell, on_updates=on_updates
            )
        if begun.devices.main:
            _show_plan(planned, json=json)


def _show_plan(planned: TrainingPlan, *, json: bool) -> None:
    for remark in planned.remarks:
        say(f"warning: {remark}")
    if json:
        print_json(planned.to_dict())
        return
    for line in str(planned).splitlines():
        print_line(line)
    print_line("next    the same command without --plan, or with another choice")


def resume(folder: Path, name: str, changes: dict[str, Any], settings: Sequence[str], *, json: bool) -> None:
    """Resumes the run in `folder`; a recipe or settings beside it must be those it began with."""
    from vitsmith.cli.terminal.training_progress import TrainingDisplay
    from vitsmith.data.sets.datasets import open_dataset
    from vitsmith.runs.run import Run
    from vitsmith.training.checkpoint.disk import latest_step
    from vitsmith.training.devices import found_devices
    from vitsmith.training.images.run import check_unchanged, recipe_of, resume_to_bundle
    from vitsmith.training.recipes.file import merge, parse_settings, read_recipe
    from vitsmith.verbs.recipe import without_empty

    named = read_recipe(name) if name else {}
    check_unchanged(folder, merge(named, without_empty(changes), parse_settings(settings)))
    recipe = recipe_of(folder)
    first = (latest_step(folder) or 0) + 1
    with found_devices() as devices:
        splits = open_dataset(recipe.data, seed=recipe.run.seed, tell=say if devices.main else None)
        with Run.reopen(folder) if devices.main else nullcontext() as run:
            shown = TrainingDisplay(recipe, devices, folder)
            if recipe.run.tensorboard:
                shown.write_tensorboard(first)
            shown.say(_describe(splits))
            with shown:
                trained = resume_to_bundle(
                    folder, splits, run, devices=devices, on_event=shown.on_event, on_start=shown.say
                )
            if run is not None:
                _finish(trained, folder, splits, json=json)


def _describe(splits: Any) -> str:
    return f"{len(splits.train):,} training and {len(splits.val):,} held-out images, {len(splits.classes)} classes"


def _finish(trained: Trained, folder: Path, splits: Any, *, json: bool) -> None:
    report = folder / "report.html"
    with beside("the report"):
        from vitsmith.report.training import write_report

        write_report(trained, splits, folder)
    scores, bundle, baseline = trained.result.final.scores, trained.bundle.folder, trained.baseline
    low, high = scores.top1_interval
    tested = trained.result.tested
    if json:
        result = {
            "bundle": str(bundle),
            "top1": scores.top1,
            "top1_interval": [low, high],
            "num_images": scores.num_images,
        }
        if baseline is not None:
            result |= {"linear_probe": baseline.linear, "knn": baseline.knn}
        if tested is not None:
            result |= {"test_top1": tested.top1, "test_top1_interval": list(tested.top1_interval)}
        print_json(result | {"report": str(report) if report.exists() else None})
        return
    print_line(f"held-out top-1 {scores.top1:.2%} (95% interval {low:.2%} to {high:.2%})")
    if tested is not None:
        low, high = tested.top1_interval
        print_line(f"test top-1      {tested.top1:.2%} (95% interval {low:.2%} to {high:.2%})")
    if baseline is not None:
        print_line(f"before          {baseline.linear:.2%} by a linear probe, {baseline.knn:.2%} by nearest neighbours")
        print_line(baseline.compare(scores.top1))
    typed = shell_quoted(str(bundle))
    print_line(f"bundle  {bundle}")
    if report.exists():
        print_line(f"report  {report}")
    print_line(f"next    vitsmith predict {typed} IMAGES")
    print_line(f"        vitsmith export {typed} --to onnx")
