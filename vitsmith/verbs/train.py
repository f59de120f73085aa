"""`vitsmith.train`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.arguments import Tell, named_arguments, warn
from vitsmith.arguments import path as argument_path
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.files.atomic import optional
from vitsmith.needs_torch import require_torch
from vitsmith.training.recipes.file import Fields, merge
from vitsmith.verbs.new_run import new_run
from vitsmith.verbs.recipe import Location, asked_fields, check_has_weights, make_recipe, text_of, without_empty

if TYPE_CHECKING:
    from vitsmith.training.forecast import TrainingPlan
    from vitsmith.training.images.run import Trained
    from vitsmith.training.recipes.recipe import TrainRecipe


@named_arguments
def train(
    data: Location | DataSpec = "",
    model: Location = "",
    *,
    arch: str = "",
    recipe: Location = "finetune",
    image_size: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Location | None = None,
    force: bool = False,
    tell: Tell = warn,
    on_event: Callable[[Any], None] = lambda _: None,
) -> Trained:
    """Trains or fine-tunes a model by a recipe, as the verb does. The `bundle` of the result is the model.

    Args:
        data: a path of class folders, a table or shards, 'digits', or a `DataSpec`; a recipe may name it instead.
        model: a bundle on disk, weights or a published name to start from. `arch`: an architecture; without `model` its
            weights are fresh.
        recipe: the name of a recipe, or a .toml file. `settings` change its fields by their names, as
            {"optimizer.lr": 0.01, "schedule.epochs": 5}; the arguments above are fields that are often changed.
        out: the run's folder; default a new one below runs/train.
        force: replace an earlier run at `out`.
        tell: called with messages; by default only warnings are shown.
        on_event: called with each event of metrics.jsonl.

    Raises InputError, ConfigError (with every mistake of the recipe), DatasetError, OutputError, MissingPackageError.
    """
    require_torch()
    from vitsmith.training.images.run import train_to_bundle

    start = {"name": arch, "init": text_of(model, "model"), "image_size": image_size}
    asked = asked_fields(data, settings, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    chosen = _recipe(recipe, start, asked)
    with new_run("train", chosen, out, force=force, tell=tell) as begun:
        splits, folder = begun.data, begun.folder
        with _tensorboard(folder if chosen.run.tensorboard else None, on_event) as heard:
            trained = train_to_bundle(
                begun.recipe, splits, begun.run, devices=begun.devices, on_event=heard, on_start=tell
            )
        if folder is not None:
            with optional("the report"):
                from vitsmith.report.training import write_report

                write_report(trained, splits, folder)
    return trained


@named_arguments
def plan_training(
    data: Location | DataSpec = "",
    model: Location = "",
    *,
    arch: str = "",
    recipe: Location = "finetune",
    image_size: int | None = None,
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Location | None = None,
    tell: Tell = warn,
) -> TrainingPlan:
    """What `train` with the same arguments would do on this machine, and what it would take: memory, time, disk.

    The model is made and a few updates are carried out on the data, as the run would, and timed; memory is predicted
    before and measured with them. Nothing is written. Measuring takes seconds, or two updates where one takes longer.

    Raises what `train` raises before its first update, and InputError where the run does not fit into memory.
    """
    require_torch()
    from vitsmith.training.images.plan import plan_images
    from vitsmith.verbs.new_run import run_to_plan

    start = {"name": arch, "init": text_of(model, "model"), "image_size": image_size}
    asked = asked_fields(data, settings, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    with run_to_plan("train", _recipe(recipe, start, asked), out, force=True, tell=tell) as begun:
        to = None if out is None else argument_path(out, "out")
        return plan_images(begun.recipe, begun.data, devices=begun.devices, folder=to, tell=tell)


def _recipe(name: Location, start: Fields, asked: Fields) -> TrainRecipe:
    check_has_weights(start["init"])
    return make_recipe(name, merge(without_empty({"model": start}), asked))


@contextmanager
def _tensorboard(folder: Path | None, on_event: Callable[[Any], None]) -> Iterator[Callable[[Any], None]]:
    """Gives the listener of events, which with a folder also writes them for TensorBoard."""
    if folder is None:
        yield on_event
        return
    from vitsmith.training.monitor.tensorboard import TensorBoard

    events = TensorBoard(folder / "tensorboard", first_step=0)

    def heard(event: Any) -> None:
        events(event)
        on_event(event)

    try:
        yield heard
    finally:
        events.close()
