"""`vitsmith.train` and `vitsmith.lit`, and how a recipe is made from their arguments."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vitsmith.arguments import instance
from vitsmith.arguments import path as argument_path
from vitsmith.data.sets.datasets import DataSpec, open_dataset
from vitsmith.data.sets.pairs import PairSplits, open_pairs
from vitsmith.data.sets.samples import Splits
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.escapes import shell_quoted
from vitsmith.files.atomic import optional
from vitsmith.models.presets import find_preset
from vitsmith.needs_torch import require_torch
from vitsmith.runs import Run, check_place, model_name
from vitsmith.training.recipes.file import is_own, lay_over, merge, parse_fields, parse_recipe, read_recipe
from vitsmith.training.recipes.idle import refuse_idle
from vitsmith.training.recipes.lit import LitRecipe, without_fresh
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.verbs.inputs import Tell, described_data, warn
from vitsmith.weights.fetch.published import find_checkpoint

if TYPE_CHECKING:
    from vitsmith.training.devices import Devices
    from vitsmith.training.images.run import Trained
    from vitsmith.training.lit.run import LitTrained

Fields = dict[str, Any]
R = TypeVar("R")
D = TypeVar("D")
Location = str | os.PathLike[str]


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

    start = {"name": arch, "init": _text(model, "model"), "image_size": image_size}
    check_has_weights(_text(model, "model"))
    asked = _asked(data, settings, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    chosen = make_recipe(recipe, merge(without_empty({"model": start}), asked))
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


def lit(
    data: Location = "",
    model: Location = "",
    *,
    text_model: Location = "",
    vocabulary: Location = "",
    recipe: Location = "lit",
    steps: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: Location | None = None,
    force: bool = False,
    tell: Tell = warn,
    on_event: Callable[[Any], None] = lambda _: None,
) -> LitTrained:
    """Trains a text tower for a frozen image tower from captions; `bundle` is the LiT model that was written.

    Args:
        data: a table with captions, tar shards, or 'shapes', which is built in.
        model: the image tower. `text_model`: a LiT model whose text tower is the start; default: fresh weights.
        vocabulary: WordPiece .txt or SentencePiece .model; default: learnt from the captions.
        settings: as for `train`, like all other arguments.
    """
    require_torch()
    from vitsmith.training.lit.run import lit_to_bundle

    asked = _asked(data, settings, steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    text = {"init": _text(text_model, "text_model"), "vocabulary": _text(vocabulary, "vocabulary")}
    towers = {"image": {"init": _text(model, "model")}, "text": text}
    chosen = make_lit_recipe(recipe, merge(without_empty(towers), asked))
    with new_lit_run(chosen, out, force=force, tell=tell) as begun:
        trained = lit_to_bundle(
            begun.recipe, begun.data, begun.run, devices=begun.devices, on_event=on_event, on_start=tell
        )
        if begun.folder is not None:
            with optional("the report"):
                from vitsmith.report.lit import write_lit_report

                write_lit_report(trained, begun.data, begun.folder)
    return trained


@dataclass(frozen=True, eq=False)
class Begun(Generic[R, D]):
    """A new run before its first update."""

    recipe: R
    """With every value that depends on the data."""
    data: D
    devices: Devices
    run: Run | None
    """None in all processes but the main one."""

    @property
    def folder(self) -> Path | None:
        """The run's folder, in the main process."""
        return None if self.run is None else self.run.folder


@contextmanager
def new_run(
    verb: str, recipe: TrainRecipe, out: Location | None, *, force: bool, tell: Tell
) -> Iterator[Begun[TrainRecipe, Splits]]:
    """Opens the data and then the folder of a run of `train` or `distill`; mistakes raise before anything is made."""
    from vitsmith.training.images.run import resolve

    start = model_name(recipe.model.init) if recipe.model.init else recipe.model.name
    with _begun(verb, recipe.data.path, start, out, force) as (devices, folder_of_run):
        splits = open_dataset(recipe.data, seed=recipe.run.seed, tell=tell if devices.main else None)
        whole = resolve(recipe, len(splits.train))
        with folder_of_run() as run:
            yield Begun(whole, splits, devices, run)


@contextmanager
def new_lit_run(
    recipe: LitRecipe, out: Location | None, *, force: bool, tell: Tell
) -> Iterator[Begun[LitRecipe, PairSplits]]:
    """The same for a run of `lit`."""
    from vitsmith.training.lit.run import resolve_lit

    with _begun("lit", recipe.data.path, model_name(recipe.image.init), out, force) as (devices, folder_of_run):
        pairs = open_pairs(recipe.data, seed=recipe.run.seed, tell=tell if devices.main else None)
        whole = resolve_lit(recipe, len(pairs.train))
        with folder_of_run() as run:
            yield Begun(whole, pairs, devices, run)


@contextmanager
def _begun(
    verb: str, data: str, start: str, out: Location | None, force: bool
) -> Iterator[tuple[Devices, Callable[[], AbstractContextManager[Run | None]]]]:
    """The devices, and how to open the run's folder. Raises OutputError, before data are read, for `out`."""
    from vitsmith.training.devices import found_devices

    place = None if out is None else argument_path(out, "out")
    with found_devices() as devices:
        if not devices.main:
            yield devices, nullcontext
            return
        check_place(verb, place, force=force)
        yield devices, lambda: Run(verb, f"{Path(data).stem}-{start}", place, force=force)


def make_recipe(name: Location, changes: Fields) -> TrainRecipe:
    """The recipe called `name` with changes applied. Raises ConfigError, also for changes without effect."""
    called = _text(name, "recipe")
    base = read_recipe(called)
    recipe = parse_recipe(lay_over(base, changes))
    refuse_idle(recipe, base if is_own(called) else {}, changes)
    return recipe


def make_lit_recipe(name: Location, changes: Fields) -> LitRecipe:
    """As `make_recipe`, for a recipe of `lit`."""
    called = _text(name, "recipe")
    base = read_recipe(called, "lit")
    recipe = parse_fields(lay_over(without_fresh(base, changes), changes), LitRecipe)
    refuse_idle(recipe, base if is_own(called) else {}, changes)
    return recipe


def common_fields(
    *, data: str, steps: int | None, batch_size: int | None, lr: float | None, seed: int | None
) -> Fields:
    """The arguments that every training verb has, as fields of a recipe; those not given are empty."""
    return {
        "data": {"path": data},
        "schedule": {"steps": steps},
        "batch": {"size": batch_size},
        "optimizer": {"lr": lr},
        "run": {"seed": seed},
    }


def without_empty(given: Mapping[str, Any]) -> Fields:
    """The fields without empty texts, None and empty tables, which mean that nothing was given."""
    kept = {name: without_empty(value) if isinstance(value, dict) else value for name, value in given.items()}
    return {name: value for name, value in kept.items() if value not in (None, "", {})}


def check_has_weights(model: str) -> None:
    """Raises InputError for a model that is only an architecture, which belongs into `arch`."""
    if not model or os.path.lexists(model):
        return
    try:
        preset, _ = find_preset(model)
    except UnknownNameError:
        return
    try:
        find_checkpoint(model)
    except InputError:
        raise InputError(
            f"`model` {shell_quoted(model)} is an architecture without weights: `arch` {shell_quoted(model)} starts "
            f"from fresh ones; to start from trained ones give a bundle, a file or a name of  vitsmith models "
            f"{preset.name}"
        ) from None


def _asked(data: Location | DataSpec, settings: Mapping[str, Any] | None, **common: Any) -> Fields:
    """The fields of a recipe that the common arguments and `settings` give."""
    described = described_data(data)
    fields = without_empty(common_fields(data=described.path, **common))
    fields = merge(fields, without_empty({"data": described.model_dump(exclude_defaults=True)}))
    for name, value in (settings or {}).items():
        for part in reversed(name.split(".")):
            value = {part: value}
        fields = merge(fields, value)
    return fields


def _text(given: Location, what: str) -> str:
    return os.fsdecode(instance(given, (str, os.PathLike), what, "a path or a name"))


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
