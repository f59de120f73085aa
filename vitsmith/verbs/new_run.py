"""A new run of `train`, `distill` or `lit` before its first update: devices, data and folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from vitsmith.arguments import Tell
from vitsmith.arguments import path as argument_path
from vitsmith.data.sets.datasets import open_dataset
from vitsmith.data.sets.pairs import PairSplits, open_pairs
from vitsmith.data.sets.samples import Splits
from vitsmith.runs.place import check_place, model_name
from vitsmith.runs.run import Run
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.verbs.recipe import Location

if TYPE_CHECKING:
    from vitsmith.training.devices import Devices

R = TypeVar("R")
D = TypeVar("D")


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
def run_to_plan(
    verb: str, recipe: TrainRecipe, out: Location | None, *, force: bool, tell: Tell
) -> Iterator[Begun[TrainRecipe, Splits]]:
    """Opens the data as `new_run` does, and refuses what it refuses, for a plan of the run: no folder is made."""
    from vitsmith.training.devices import found_devices
    from vitsmith.training.images.run import resolve

    place = None if out is None else argument_path(out, "out")
    with found_devices() as devices:
        if devices.main:
            check_place(verb, place, force=force)
        splits = open_dataset(recipe.data, seed=recipe.run.seed, tell=tell if devices.main else None)
        yield Begun(resolve(recipe, len(splits.train)), splits, devices, None)


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
