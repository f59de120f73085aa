"""A whole run: from a recipe and its data to a bundle in the run's folder, in one go or in several."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vitsmith import __version__
from vitsmith.data.samples import Splits
from vitsmith.errors import ConfigError
from vitsmith.evaluate.evaluation import describe_machine
from vitsmith.models.build import ImageModel, build
from vitsmith.models.configure import parse_config
from vitsmith.runs import Run
from vitsmith.specs import ImageSpec, Labels, Measurement, Provenance
from vitsmith.train.baseline import Baseline, measure_baseline
from vitsmith.train.checkpoint import Checkpoint, CheckpointWriter, read_latest
from vitsmith.train.devices import Devices, check_batch, check_same_data, find_devices, is_sharded
from vitsmith.train.events import Event, Listener, ignore
from vitsmith.train.history import past_from, row_of, rows_until
from vitsmith.train.learner import Learner
from vitsmith.train.loop import Past, Training, TrainResult
from vitsmith.train.losses import Loss, classification_loss, sigmoid_loss
from vitsmith.train.memory import MemoryPlan, plan_memory
from vitsmith.train.peak import measured_peak_flops
from vitsmith.train.recipe import TrainRecipe
from vitsmith.train.recipe_file import differences, merge, parse_recipe
from vitsmith.train.start import start
from vitsmith.train.stop import stopping_gently
from vitsmith.weights.bundle import Bundle
from vitsmith.weights.bundle_folder import write_bundle

GOLDEN_IMAGES = 4
RECIPE = "recipe.json"

Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a run gives: the bundle on disk, and what happened on the way."""

    bundle: Bundle
    result: TrainResult
    recipe: TrainRecipe
    """As it was carried out: passes over the data have become updates."""
    plan: MemoryPlan
    baseline: Baseline | None
    report: str
    """What became of the checkpoint's arrays; empty for fresh weights."""


@dataclass(eq=False)
class _Beginning:
    """Where a run begins: at its first update, or after a checkpoint."""

    model: ImageModel
    images: ImageSpec
    report: str = ""
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

    `on_start` is told what became of a checkpoint's arrays, the memory plan and the baseline. Golden examples are
    held-out images. With several processes all of them call it, and `run` is None in all but the main one.

    Raises what `start`, `plan_memory` and `Training.go` raise; whatever stops it, no part of a bundle is left.
    """
    devices = devices or find_devices()
    recipe = resolve(recipe, len(splits.train))
    check_batch(recipe, devices)
    check_same_data(splits.train.fingerprint() + splits.val.fingerprint(), devices)
    if run is not None:
        run.write_json(RECIPE, recipe.model_dump(mode="json"))
    model, images, adapted = start(recipe, len(splits.classes))
    beginning = _Beginning(model, images, str(adapted) if adapted else "")
    if adapted is not None:
        on_start(str(adapted))
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
    """Goes on with the run in `folder` from its newest checkpoint, to the very losses it would have had.

    Raises InputError without a usable checkpoint, ConfigError for other data, and what `train_to_bundle` raises.
    """
    devices = devices or find_devices()
    recipe = recipe_of(folder)
    checkpoint = read_latest(folder)
    check_batch(recipe, devices)
    fingerprint = splits.train.fingerprint() + splits.val.fingerprint()
    check_same_data(fingerprint, devices)
    if fingerprint != checkpoint.facts["data"]:
        raise ConfigError(
            f"{recipe.data.path} is not the data that the run in {folder} began with (other images, names or classes): "
            "give it back what it had, or start a new run"
        )
    model = build(parse_config(checkpoint.facts["config"]), fresh=False)
    assert isinstance(model, ImageModel)
    images = ImageSpec.model_validate(checkpoint.facts["images"])
    beginning = _Beginning(model, images, checkpoint.facts["report"], checkpoint)
    on_start(f"going on after update {checkpoint.step} of {recipe.schedule.steps}")
    return _carry_out(recipe, splits, run, beginning, devices, on_event, on_start)


def recipe_of(folder: Path) -> TrainRecipe:
    """The recipe that the run in `folder` carries out. Raises InputError."""
    from vitsmith.train.recipe_file import read_recipe

    return parse_recipe(read_recipe(str(folder / RECIPE)))


def check_unchanged(folder: Path, changes: dict[str, Any]) -> None:
    """Raises ConfigError that tells every difference between a run's recipe and the one it is to be resumed with."""
    before = recipe_of(folder)
    told = differences(before, parse_recipe(merge(before.model_dump(mode="json"), changes)))
    if told:
        raise ConfigError(
            f"the run in {folder} cannot go on with another recipe ({'; '.join(told)}): resume it without these "
            "changes, or start a new run"
        )


def resolve(recipe: TrainRecipe, images: int) -> TrainRecipe:
    """The recipe with passes over `images` training images turned into updates. Raises ConfigError."""
    try:
        schedule = recipe.schedule.in_updates(images, recipe.batch.size)
    except ValidationError as error:
        raise ConfigError(f"schedule: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return recipe.model_copy(update={"schedule": schedule})


def _carry_out(
    recipe: TrainRecipe,
    splits: Splits,
    run: Run | None,
    beginning: _Beginning,
    devices: Devices,
    on_event: Listener,
    on_start: Say,
) -> Trained:
    checkpoint, model = beginning.checkpoint, beginning.model
    loss = make_loss(recipe, splits, beginning.images, devices)
    baseline = _baseline(recipe, splits, run, beginning, devices, on_start)
    plan = plan_memory(
        model.config,
        recipe,
        devices=devices.count,
        sharded=is_sharded(recipe, devices),
        device=devices.device,
    )
    on_start(plan.reason)
    micro, checkpointing = plan.micro, plan.checkpointing
    if checkpoint is not None and checkpoint.facts["devices"] == devices.count:  # other slices round otherwise
        micro, checkpointing = checkpoint.facts["micro"], checkpoint.facts["checkpointing"]
    learner = Learner.of(model, recipe, loss, devices, checkpointing=checkpointing)
    past = Past()
    if checkpoint is not None:
        learner.load(checkpoint.tensors)
        past = Past(checkpoint.step)
        if run is not None:
            rows = rows_until(run.rows(), checkpoint.step)
            run.rewrite_rows(rows)
            past = past_from(rows, checkpoint.step)

    def listen(event: Event) -> None:
        if run is not None:
            run.log(**row_of(event))
        on_event(event)

    facts = {
        "vitsmith": __version__,
        "data": splits.train.fingerprint() + splits.val.fingerprint(),
        "config": model.config.model_dump(mode="json"),
        "images": beginning.images.model_dump(mode="json"),
        "report": beginning.report,
        "devices": devices.count,
        "micro": micro,
        "checkpointing": checkpointing,
    }
    writer = CheckpointWriter(run.folder, recipe.run.keep_checkpoints) if run is not None else None
    try:
        with stopping_gently() as stop:
            training = Training(
                learner,
                splits,
                recipe,
                beginning.images,
                devices,
                micro,
                stop,
                checkpoints=writer,
                facts=facts,
                on_event=listen,
                peak_flops=measured_peak_flops(devices.device, recipe.run.precision),
            )
            result = training.go(past)
        whole = learner.whole_model()
        bundle = _bundle(whole, beginning.images, recipe, splits, result)
        if run is not None:
            bundle = write_bundle(bundle, run.folder / "model")
            if writer is not None:
                writer.remove()
        devices.wait()
    finally:
        if writer is not None:
            writer.close()
    return Trained(bundle, result, recipe, plan, baseline, beginning.report)


def make_loss(recipe: TrainRecipe, splits: Splits, images: ImageSpec, devices: Devices) -> Loss:
    """What is minimised: cross-entropy with the labels, or with what a teacher says."""
    if recipe.distill is None:
        return classification_loss if recipe.loss.kind == "softmax" else sigmoid_loss
    from vitsmith.train.distill import open_teacher

    return open_teacher(recipe, splits.classes, images, devices.device)


def _baseline(
    recipe: TrainRecipe, splits: Splits, run: Run | None, beginning: _Beginning, devices: Devices, on_start: Say
) -> Baseline | None:
    """What the checkpoint's features are worth before they are trained; nothing for fresh weights."""
    if run is None or not (recipe.run.baseline and recipe.model.init):
        return None
    kept = run.folder / "baseline.json"
    if beginning.checkpoint is not None:
        return Baseline(**json.loads(kept.read_text(encoding="utf-8"))) if kept.exists() else None
    model = beginning.model.to(devices.device)
    on_start("scoring a linear probe and nearest neighbours on the checkpoint's features")
    baseline = measure_baseline(model, splits, beginning.images, skip_unreadable=recipe.data.skip_unreadable)
    on_start(str(baseline))
    run.write_json("baseline.json", asdict(baseline))
    return baseline


def _bundle(model: ImageModel, images: ImageSpec, recipe: TrainRecipe, splits: Splits, result: TrainResult) -> Bundle:
    scores = result.final.scores
    low, high = scores.top1_interval
    today = datetime.date.today().isoformat()
    bundle = Bundle.of(
        model,
        images=images,
        labels=Labels(names=splits.classes),
        provenance=Provenance(
            source=f"vitsmith train on {recipe.data.path}, {recipe.schedule.steps} steps",
            format="trained",
            parent=recipe.model.init,
            date=today,
            vitsmith=__version__,
        ),
        measurements=(
            Measurement(
                name="top1",
                value=scores.top1,
                low=low,
                high=high,
                data=f"{recipe.data.path}, {scores.images} held-out images",
                machine=describe_machine(),
                date=today,
            ),
        ),
    )
    step = max(len(splits.val) // GOLDEN_IMAGES, 1)
    golden = [splits.val.image(index) for index in range(0, len(splits.val), step)][:GOLDEN_IMAGES]
    return bundle.with_golden(golden)
