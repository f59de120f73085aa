"""A whole run: from a recipe and its data to a bundle in the run's folder, in one go or in several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vitsmith.data.sets.samples import Splits
from vitsmith.errors import ConfigError, InputError
from vitsmith.escapes import shell_quoted
from vitsmith.json_text import read_json
from vitsmith.models.build import ImageModel, build
from vitsmith.models.configure import parse_config
from vitsmith.names import look_alikes
from vitsmith.runs import Run, write_or_rescue
from vitsmith.specs import ImageSpec
from vitsmith.training.checkpoint.disk import Checkpoint, CheckpointWriter, read_latest
from vitsmith.training.devices import Devices, check_batch, check_same_data, find_devices
from vitsmith.training.images.baseline import Baseline, measure_baseline
from vitsmith.training.images.bundle import make_bundle
from vitsmith.training.images.result import TrainResult
from vitsmith.training.images.start import start
from vitsmith.training.learner import Learner
from vitsmith.training.loop import Training
from vitsmith.training.memory.plan import MemoryPlan
from vitsmith.training.memory.processes import plan_run
from vitsmith.training.monitor.events import Event, Listener, Warned, ignore
from vitsmith.training.monitor.metrics_file import past_from, row_of, usable_rows
from vitsmith.training.monitor.past import Past
from vitsmith.training.monitor.peak import measured_peak_flops
from vitsmith.training.recipes.file import check_begun_with, check_same, merge, parse_recipe, read_recipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.split import forget_kept, record_split
from vitsmith.training.stop import stopping_gently
from vitsmith.training.update.losses import Loss, classification_loss, sigmoid_loss
from vitsmith.version import __version__
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.bundle.folder import write_bundle

RECIPE = "recipe.json"
_NEEDED = ("data", "config", "images", "report", "devices", "micro", "checkpointing")
"""Facts that a checkpoint of any vitsmith has."""

Say = Callable[[str], None]

_MOST_ALIKE = 5
"""The most pairs of similar class names that are reported."""


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """The result of a run: the bundle on disk, and what happened on the way."""

    bundle: Bundle
    result: TrainResult
    recipe: TrainRecipe
    """The recipe as it was carried out, with passes over the data turned into updates."""
    plan: MemoryPlan
    baseline: Baseline | None
    report: str
    """How the checkpoint's arrays were adapted; empty for fresh weights."""

    def __str__(self) -> str:
        return f"{self.bundle.folder}: {self.result}"

    def __repr__(self) -> str:
        return f"<Trained {self}>"


@dataclass(eq=False)
class _Beginning:
    """Where a run begins: at its first update, or after a checkpoint."""

    model: ImageModel
    images: ImageSpec
    report: str
    publication: dict[str, str]
    checkpoint: Checkpoint | None = None


def train_to_bundle(
    recipe: TrainRecipe,
    splits: Splits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: Listener = ignore,
    on_start: Say = lambda _: None,
) -> Trained:
    """Trains, logging every event to the run's metrics.jsonl, and writes `<run>/model` when all is done.

    `on_start` receives how a checkpoint's arrays were adapted, the memory plan and the baseline. Golden examples are
    held-out images; the bundle's record says which images were held out. With several processes all of them call it,
    and `run` is None in all but the main one.

    Raises what `start`, `plan_memory` and `Training.go` raise; whatever stops it, no part of a bundle is left.
    """
    devices = devices or find_devices()
    recipe = resolve(recipe, len(splits.train))
    check_batch(recipe, devices)
    check_same_data(fingerprint(splits), devices)
    for one, other, difference in look_alikes(splits.classes)[:_MOST_ALIKE]:
        on_start(f"classes {one!r} and {other!r} differ only in {difference}: merge them if they are the same")
    if run is not None:
        run.write_json(RECIPE, recipe.model_dump(mode="json"))
    model, images, adapted, notes, publication = start(recipe, len(splits.classes))
    beginning = _Beginning(model, images, str(adapted) if adapted else "", publication)
    for line in (*notes, *(str(adapted).splitlines() if adapted is not None else ())):
        on_start(line)
    return _carry_out(recipe, splits, run, beginning, devices, on_event, on_start)


def resume_to_bundle(
    folder: Path,
    splits: Splits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: Listener = ignore,
    on_start: Say = lambda _: None,
) -> Trained:
    """Resumes the run in `folder` from its newest checkpoint, with exactly the losses that it would have had.

    Raises InputError without a usable checkpoint, ConfigError for other data, and what `train_to_bundle` raises.
    """
    devices = devices or find_devices()
    recipe = recipe_of(folder)
    checkpoint = read_latest(folder, _NEEDED)
    for remark in checkpoint.remarks:
        on_start(remark)
    check_begun_with(checkpoint.facts, recipe, folder)
    check_batch(recipe, devices)
    check_same_data(fingerprint(splits), devices)
    if fingerprint(splits) != checkpoint.facts["data"]:
        raise ConfigError(
            f"{recipe.data.path} is not the data that the run in {folder} began with (other names, classes or labels): "
            "restore the data, or start a new run"
        )
    model = build(parse_config(checkpoint.facts["config"]), fresh=False)
    assert isinstance(model, ImageModel)
    images = ImageSpec.model_validate(checkpoint.facts["images"])
    beginning = _Beginning(
        model, images, checkpoint.facts["report"], checkpoint.facts.get("publication", {}), checkpoint
    )
    on_start(f"going on after update {checkpoint.step} of {recipe.schedule.steps}")
    return _carry_out(recipe, splits, run, beginning, devices, on_event, on_start)


def recipe_of(folder: Path) -> TrainRecipe:
    """The recipe that the run in `folder` carries out. Raises InputError."""
    return parse_recipe(read_recipe(str(folder / RECIPE)))


def check_unchanged(folder: Path, changes: dict[str, Any]) -> None:
    """Raises ConfigError that lists every difference between a run's recipe and the one to resume it with."""
    before = recipe_of(folder)
    check_same(before, parse_recipe(merge(before.model_dump(mode="json"), changes)), folder)


def resolve(recipe: TrainRecipe, images: int) -> TrainRecipe:
    """The recipe with passes over `images` training images turned into updates. Raises ConfigError."""
    return recipe.model_copy(update={"schedule": recipe.schedule.in_updates(images, recipe.batch.size)})


def _carry_out(
    recipe: TrainRecipe,
    splits: Splits,
    run: Run | None,
    beginning: _Beginning,
    devices: Devices,
    on_event: Listener,
    on_start: Say,
) -> Trained:
    parts = {"train": splits.train, "held_out": splits.val, "test": splits.test}
    teacher = recipe.distill.teacher if recipe.distill else ""
    resumed = beginning.checkpoint is not None
    recorded = record_split(parts, [recipe.model.init], run, devices, on_start, teacher=teacher, resumed=resumed)
    loss = make_loss(recipe, splits, beginning.images, devices, on_start)
    baseline = _baseline(recipe, splits, run, beginning, devices, on_start)
    plan = plan_run(beginning.model.config, recipe, devices, beginning.checkpoint)
    on_start(plan.reason)
    learner = Learner.of(beginning.model, recipe, loss, devices, checkpointing=plan.checkpointing)
    facts = _facts(recipe, loss, beginning, splits, devices, plan)
    _check_same_teacher(facts, beginning.checkpoint, recipe)
    past = _past(run, learner, beginning.checkpoint, recipe.schedule.steps, on_start)

    leaks = [Warned(0, told) for told in recorded.leaks if not recorded.resumed]
    past = replace(past, warnings=(*past.warnings, *leaks))
    for leak in leaks:
        on_event(leak)

    def listen(event: Event) -> None:
        if run is not None:
            while leaks:  # not before: a run that is refused before its first update leaves no folder
                run.log(**row_of(leaks.pop(0)))
            run.log(**row_of(event))
        on_event(event)

    writer = CheckpointWriter(run.folder, recipe.run.keep_checkpoints) if run is not None else None
    try:
        with stopping_gently() as stop:
            result = Training(
                learner,
                splits,
                recipe,
                beginning.images,
                devices,
                plan.micro,
                stop,
                checkpoints=writer,
                facts=facts,
                on_event=listen,
                peak_flops=measured_peak_flops(devices.device, recipe.run.precision),
            ).go(past)
        trained = make_bundle(learner.whole_model(), beginning.images, recipe, splits, result, beginning.publication)
        bundle = recorded.mark(trained)
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
    return Trained(bundle, result, recipe, plan, baseline, beginning.report)


def _past(run: Run | None, learner: Learner, checkpoint: Checkpoint | None, steps: int, on_start: Say) -> Past:
    """Restores the learner from the checkpoint, and removes what was logged after it: it will be logged again."""
    if checkpoint is None:
        return Past()
    learner.load(checkpoint.tensors)
    if run is None:
        return Past(checkpoint.step)
    rows, remark = usable_rows(run.rows(), checkpoint.step, past_from)
    if remark:
        on_start(remark)
    if checkpoint.step == steps:  # the last evaluation comes after the last checkpoint, and is made again
        rows = [row for row in rows if (row["event"], row["step"]) != ("evaluation", steps)]
    run.rewrite_rows(rows)
    return past_from(rows, checkpoint.step)


def _facts(
    recipe: TrainRecipe, loss: Loss, beginning: _Beginning, splits: Splits, devices: Devices, plan: MemoryPlan
) -> dict[str, Any]:
    """Facts that a later process needs to resume, besides the tensors."""
    return {
        "vitsmith": __version__,
        "recipe": recipe.model_dump(mode="json"),
        "teacher": getattr(getattr(loss, "teacher", None), "identity", ""),
        "data": fingerprint(splits),
        "config": beginning.model.config.model_dump(mode="json"),
        "images": beginning.images.model_dump(mode="json"),
        "report": beginning.report,
        "publication": beginning.publication,
        "devices": devices.count,
        "micro": plan.micro,
        "checkpointing": plan.checkpointing,
    }


def _check_same_teacher(facts: dict[str, Any], checkpoint: Checkpoint | None, recipe: TrainRecipe) -> None:
    """Raises ConfigError when a run that is resumed would learn from another teacher than before."""
    if (
        checkpoint is not None
        and recipe.distill
        and checkpoint.facts.get("teacher", facts["teacher"]) != facts["teacher"]
    ):
        raise ConfigError(
            f"{recipe.distill.teacher} is not the teacher that the run began with: restore it, or start a new run"
        )


def fingerprint(splits: Splits) -> str:
    """A fingerprint of the names, classes and labels. Pixels do not count."""
    return "".join(part.fingerprint() for part in (splits.train, splits.val, splits.test) if part is not None)


def make_loss(recipe: TrainRecipe, splits: Splits, images: ImageSpec, devices: Devices, tell: Say) -> Loss:
    """The loss: cross-entropy with the labels, or with a teacher's answers."""
    if recipe.distill is None:
        return classification_loss if recipe.loss.kind == "softmax" else sigmoid_loss
    from vitsmith.training.images.teacher import open_teacher

    return open_teacher(recipe, splits.classes, images, devices.device, tell)


def _kept_baseline(kept: Path, on_start: Say) -> Baseline | None:
    """The baseline measured when the run began; None where its file is missing or damaged."""
    try:
        return Baseline(**read_json(kept))
    except FileNotFoundError:
        return None
    except (InputError, TypeError):
        on_start(f"{kept} cannot be read: the report will lack the scores from before training")
        return None


def _baseline(
    recipe: TrainRecipe, splits: Splits, run: Run | None, beginning: _Beginning, devices: Devices, on_start: Say
) -> Baseline | None:
    """Scores the checkpoint's features before they are trained; None for fresh weights."""
    if run is None or not (recipe.run.baseline and recipe.model.init):
        return None
    kept = run.folder / "baseline.json"
    if beginning.checkpoint is not None:
        return _kept_baseline(kept, on_start)
    model = beginning.model.to(devices.device)
    on_start("scoring a linear probe and nearest neighbours on the checkpoint's features")
    baseline = measure_baseline(model, splits, beginning.images, skip_unreadable=recipe.data.skip_unreadable)
    on_start(str(baseline))
    run.write_json("baseline.json", asdict(baseline))
    return baseline
