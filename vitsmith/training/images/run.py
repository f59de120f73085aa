"""A run on images: from a recipe and labelled images to a bundle in the run's folder, in one go or in several."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vitsmith.arguments import Tell
from vitsmith.data.sets.samples import Splits
from vitsmith.errors import ConfigError, InputError
from vitsmith.json_text import read_json
from vitsmith.models.build import ImageModel, build
from vitsmith.models.configure import parse_config
from vitsmith.names import look_alikes
from vitsmith.records import NOT_KNOWN
from vitsmith.runs.run import Run
from vitsmith.specs import ImageSpec
from vitsmith.training.checkpoint.disk import TrainingCheckpoint
from vitsmith.training.devices import Devices, check_batch, find_devices
from vitsmith.training.images.baseline import Baseline, measure_baseline
from vitsmith.training.images.bundle import make_bundle
from vitsmith.training.images.result import TrainResult
from vitsmith.training.images.start import start
from vitsmith.training.images.task import ImageTask
from vitsmith.training.learner import Learner
from vitsmith.training.memory.plan import MemoryPlan
from vitsmith.training.memory.processes import plan_run
from vitsmith.training.monitor.events import Listener, Warned, ignore
from vitsmith.training.recipes.file import check_same, merge, parse_recipe, read_recipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.run import RECIPE, Job, carry_out, fingerprint, newest_checkpoint, restore
from vitsmith.training.split import Recorded, record_split
from vitsmith.training.update.losses import Loss, classification_loss, sigmoid_loss
from vitsmith.weights.bundle.bundle import Bundle

_NEEDED = ("data", "config", "images", "report", "devices", "micro", "checkpointing")
"""Facts that a checkpoint of any vitsmith has."""

_MOST_ALIKE = 5
"""The most pairs of similar class names that are reported."""

ImageJob = Job[TrainRecipe, Splits]


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
    checkpoint: TrainingCheckpoint | None = None


def train_to_bundle(
    recipe: TrainRecipe,
    splits: Splits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: Listener = ignore,
    on_start: Tell = lambda _: None,
) -> Trained:
    """Trains, logging every event to the run's metrics.jsonl, and writes `<run>/model` when all is done.

    `on_start` receives how a checkpoint's arrays were adapted, the memory plan and the baseline. Golden examples are
    held-out images; the bundle's record says which images were held out. With several processes all of them call it,
    and `run` is None in all but the main one.

    Raises what `start`, `plan_memory` and `Training.go` raise; whatever stops it, no part of a bundle is left.
    """
    job = image_job(resolve(recipe, len(splits.train)), splits, run, devices, on_event, on_start)
    for one, other, difference in look_alikes(splits.classes)[:_MOST_ALIKE]:
        on_start(f"classes {one!r} and {other!r} differ only in {difference}: merge them if they are the same")
    job.note_recipe()
    model, images, adapted, notes, publication = start(job.recipe, len(splits.classes))
    beginning = _Beginning(model, images, str(adapted) if adapted else "", publication)
    for line in (*notes, *(str(adapted).splitlines() if adapted is not None else ())):
        on_start(line)
    return _carry_out(job, beginning)


def resume_to_bundle(
    folder: Path,
    splits: Splits,
    run: Run | None,
    *,
    devices: Devices | None = None,
    on_event: Listener = ignore,
    on_start: Tell = lambda _: None,
) -> Trained:
    """Resumes the run in `folder` from its newest checkpoint, with exactly the losses that it would have had.

    Raises InputError without a usable checkpoint, ConfigError for other data, and what `train_to_bundle` raises.
    """
    job = image_job(recipe_of(folder), splits, run, devices, on_event, on_start)
    checkpoint = newest_checkpoint(job, folder, _NEEDED, "names, classes or labels")
    facts = checkpoint.facts
    model = build(parse_config(facts["config"]), fresh=False)
    assert isinstance(model, ImageModel)
    images = ImageSpec.model_validate(facts["images"])
    on_start(f"going on after update {checkpoint.step} of {job.recipe.schedule.steps}")
    return _carry_out(job, _Beginning(model, images, facts["report"], facts.get("publication", {}), checkpoint))


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


def image_job(
    recipe: TrainRecipe, splits: Splits, run: Run | None, devices: Devices | None, on_event: Listener, tell: Tell
) -> ImageJob:
    """The job of a run on images. Raises ConfigError for a batch that cannot be shared out."""
    devices = devices or find_devices()
    check_batch(recipe, devices)
    data = fingerprint((splits.train, splits.val, splits.test), devices)
    return Job(recipe, splits, data, run, devices, on_event, tell)


def _carry_out(job: ImageJob, beginning: _Beginning) -> Trained:
    recipe, devices, images = job.recipe, job.devices, beginning.images
    recorded = _record_split(job, resumed=beginning.checkpoint is not None)
    loss = make_loss(job, images)
    baseline = _baseline(job, beginning)
    plan = plan_run(beginning.model.config, recipe, devices, beginning.checkpoint)
    job.tell(plan.reason)
    learner = Learner.of(beginning.model, recipe, loss, devices, checkpointing=plan.checkpointing)
    facts = _facts(beginning, loss, plan)
    _check_same_teacher(facts, beginning.checkpoint, recipe)
    past = restore(job, learner, beginning.checkpoint)
    leaks = [Warned(0, told) for told in recorded.leaks if not recorded.resumed]
    for leak in leaks:
        job.warn_before(leak)

    def bundle_of(result: TrainResult) -> Bundle:
        teacher = getattr(getattr(loss, "teacher", None), "publication", NOT_KNOWN)
        return make_bundle(learner.whole_model(), images, recipe, job.data, result, beginning.publication, teacher)

    result, bundle = carry_out(
        job,
        ImageTask(learner, job.data, recipe, images, devices, plan.micro, measures_peak=True),
        replace(past, warnings=(*past.warnings, *leaks)),
        facts=facts,
        recorded=recorded,
        make_bundle=bundle_of,
    )
    return Trained(bundle, result, recipe, plan, baseline, beginning.report)


def _record_split(job: ImageJob, *, resumed: bool) -> Recorded:
    recipe, splits = job.recipe, job.data
    return record_split(
        {"train": splits.train, "held_out": splits.val, "test": splits.test},
        [recipe.model.init],
        job.run,
        job.devices,
        job.tell,
        teacher=recipe.distill.teacher if recipe.distill else "",
        resumed=resumed,
    )


def _facts(beginning: _Beginning, loss: Loss, plan: MemoryPlan) -> dict[str, Any]:
    """Facts of a run on images that a later process needs to resume it."""
    return {
        "teacher": getattr(getattr(loss, "teacher", None), "identity", ""),
        "config": beginning.model.config.model_dump(mode="json"),
        "images": beginning.images.model_dump(mode="json"),
        "report": beginning.report,
        "publication": beginning.publication,
        "checkpointing": plan.checkpointing,
    }


def _check_same_teacher(facts: dict[str, Any], checkpoint: TrainingCheckpoint | None, recipe: TrainRecipe) -> None:
    """Raises ConfigError when a run that is resumed would learn from another teacher than before."""
    if (
        checkpoint is not None
        and recipe.distill
        and checkpoint.facts.get("teacher", facts["teacher"]) != facts["teacher"]
    ):
        raise ConfigError(
            f"{recipe.distill.teacher} is not the teacher that the run began with: restore it, or start a new run"
        )


def make_loss(job: ImageJob, images: ImageSpec) -> Loss:
    """The loss: cross-entropy with the labels, or with a teacher's answers."""
    recipe = job.recipe
    if recipe.distill is None:
        return classification_loss if recipe.loss.kind == "softmax" else sigmoid_loss
    from vitsmith.training.images.teacher import open_teacher

    return open_teacher(recipe, job.data.classes, images, job.devices.device, job.tell)


def _kept_baseline(kept: Path, tell: Tell) -> Baseline | None:
    """The baseline measured when the run began; None where its file is missing or damaged."""
    try:
        return Baseline(**read_json(kept))
    except FileNotFoundError:
        return None
    except (InputError, TypeError):
        tell(f"{kept} cannot be read: the report will lack the scores from before training")
        return None


def _baseline(job: ImageJob, beginning: _Beginning) -> Baseline | None:
    """Scores the checkpoint's features before they are trained; None for fresh weights."""
    recipe, run = job.recipe, job.run
    if run is None or not (recipe.run.baseline and recipe.model.init):
        return None
    kept = run.folder / "baseline.json"
    if beginning.checkpoint is not None:
        return _kept_baseline(kept, job.tell)
    model = beginning.model.to(job.devices.device)
    job.tell("scoring a linear probe and nearest neighbours on the checkpoint's features")
    baseline = measure_baseline(model, job.data, beginning.images, skip_unreadable=recipe.data.skip_unreadable)
    if baseline is None:
        job.tell("there are too few training images for a baseline: it is left out")
        return None
    job.tell(str(baseline))
    run.write_json("baseline.json", asdict(baseline))
    return baseline
