"""A whole run of any kind of training: its checkpoint and its log, the loop, and the bundle in its folder at the end.

`images/run.py` and `lit/run.py` make the models and the data that it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from vitsmith.arguments import Tell
from vitsmith.data.sets.samples import Samples
from vitsmith.errors import ConfigError
from vitsmith.escapes import shell_quoted
from vitsmith.runs.place import write_or_rescue
from vitsmith.runs.run import Run
from vitsmith.training.checkpoint.disk import CheckpointWriter, TrainingCheckpoint, read_latest
from vitsmith.training.checkpoint.state import TrainingState
from vitsmith.training.devices import Devices, check_same_data
from vitsmith.training.loop import Training
from vitsmith.training.monitor.events import Event, Listener, Warned
from vitsmith.training.monitor.journal import Past
from vitsmith.training.monitor.metrics_file import past_from, row_of, usable_rows, without_last_evaluation
from vitsmith.training.recipes.file import check_begun_with
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.split import Recorded, forget_kept
from vitsmith.training.stop import stopping_gently
from vitsmith.training.task import TrainingTask
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle

RECIPE = "recipe.json"

RecipeT = TypeVar("RecipeT", TrainRecipe, LitRecipe)
BatchT = TypeVar("BatchT")
DataT = TypeVar("DataT")
ResultT = TypeVar("ResultT")


@dataclass(eq=False)
class Job(Generic[RecipeT, DataT]):
    """What is trained on what, where, and who is told: the things that all parts of one run in this process need."""

    recipe: RecipeT
    data: DataT
    fingerprint: str
    """The fingerprint of the data."""
    run: Run | None
    """None in all processes but the main one."""
    devices: Devices
    listener: Listener
    tell: Tell
    _unlogged: list[Warned] = field(default_factory=list)

    def on_event(self, event: Event) -> None:
        """Logs what happened, and passes it on."""
        if self.run is not None:
            while self._unlogged:
                self.run.log(**row_of(self._unlogged.pop(0)))
            self.run.log(**row_of(event))
        self.listener(event)

    def warn_before(self, warning: Warned) -> None:
        """Passes a warning on, and logs it before the next event: a run that is refused until then leaves no folder."""
        self._unlogged.append(warning)
        self.listener(warning)

    def note_recipe(self) -> None:
        """Writes the recipe into the run's folder."""
        if self.run is not None:
            self.run.write_json(RECIPE, self.recipe.model_dump(mode="json"))


def fingerprint(parts: tuple[Samples | None, ...], devices: Devices) -> str:
    """A fingerprint of the names, classes and labels of the parts; pixels do not count.

    Raises DatasetError, in every process, when they do not all see the same.
    """
    found = "".join(part.fingerprint() for part in parts if part is not None)
    check_same_data(found, devices)
    return found


def newest_checkpoint(job: Job[RecipeT, DataT], folder: Path, needed: tuple[str, ...], what: str) -> TrainingCheckpoint:
    """The checkpoint that the run in `folder` goes on from. `needed` are facts that a checkpoint of any vitsmith has.

    Raises InputError where there is none, ConfigError for another recipe or for data with another `what`.
    """
    checkpoint = read_latest(folder, needed)
    for remark in checkpoint.remarks:
        job.tell(remark)
    check_begun_with(checkpoint.facts, job.recipe, folder)
    if job.fingerprint != checkpoint.facts["data"]:
        raise ConfigError(
            f"{job.recipe.data.path} is not the data that the run in {folder} began with (other {what}): "
            "restore the data, or start a new run"
        )
    return checkpoint


def restore(job: Job[RecipeT, DataT], state: TrainingState, checkpoint: TrainingCheckpoint | None) -> Past:
    """Restores the state from the checkpoint, and removes what was logged after it: it will be logged again."""
    if checkpoint is None:
        return Past()
    state.load(checkpoint.tensors)
    if job.run is None:
        return Past(checkpoint.step)
    rows, remark = usable_rows(job.run.rows(), checkpoint.step)
    if remark:
        job.tell(remark)
    if checkpoint.step == job.recipe.schedule.steps:
        rows = without_last_evaluation(rows, checkpoint.step)
    job.run.rewrite_rows(rows)
    return past_from(rows, checkpoint.step)


def carry_out(
    job: Job[RecipeT, DataT],
    task: TrainingTask[BatchT, ResultT],
    past: Past,
    *,
    facts: Mapping[str, Any],
    recorded: Recorded,
    make_bundle: Callable[[ResultT], Bundle],
) -> tuple[ResultT, Bundle]:
    """Trains from after `past` to the end, and writes `<run>/model`; whatever stops it, no part of a bundle is left.

    `facts` are those of this task that a later process needs to resume it, besides the tensors.
    """
    run, devices = job.run, job.devices
    writer = CheckpointWriter(run.folder, job.recipe.run.keep_checkpoints) if run is not None else None
    try:
        with stopping_gently() as stop:
            result = Training(task, stop, writer, {**_common_facts(job), **facts}, job.on_event).go(past)
        bundle = recorded.mark(make_bundle(result))
        if run is not None and writer is not None:
            typed = shell_quoted(str(run.folder))
            bundle = write_or_rescue(
                run.folder / "model",
                partial(write_bundle, bundle),
                otherwise=f"All updates are saved: free some space and go on with --resume {typed}",
            )
            writer.remove()
            forget_kept(run)
        devices.wait()
    finally:
        if writer is not None:
            writer.close()
    return result, bundle


def _common_facts(job: Job[RecipeT, DataT]) -> dict[str, Any]:
    return {
        "vitsmith": __version__,
        "recipe": job.recipe.model_dump(mode="json"),
        "data": job.fingerprint,
        "devices": job.devices.count,
    }
