"""The plan of a run on images: what it chooses, and what a few of its updates take here. Nothing is written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vitsmith.amounts import bytes_text, duration_text
from vitsmith.arguments import Tell
from vitsmith.data.sets.samples import Splits
from vitsmith.machine import available_cores, load_average, peak_memory
from vitsmith.models.config import ModelConfig
from vitsmith.models.cost import parameters
from vitsmith.training.devices import Devices
from vitsmith.training.forecast import Disk, Duration, OtherRun, TrainingPlan
from vitsmith.training.images.baseline import SECONDS as BASELINE
from vitsmith.training.images.run import ImageJob, image_job, make_loss, resolve
from vitsmith.training.images.start import start
from vitsmith.training.images.task import ImageTask
from vitsmith.training.images.validation import predict_logits
from vitsmith.training.learner import Learner
from vitsmith.training.memory.plan import MemoryPlan, next_smaller, peak_otherwise
from vitsmith.training.memory.processes import plan_run
from vitsmith.training.monitor.events import ignore
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.rehearsal import UpdateTimes, rehearse

BUDGET = 5.0
"""Seconds of updates to measure, where they are short."""
_FEWEST, _MOST = 3, 200
_LONG = 20.0  # seconds of an update of which two are made, and none untimed
_TOLD = 60.0  # seconds of measuring that are told beforehand
_BUSY = 0.5  # load a core
_ANY_UNREADABLE = 0.999
_EVALUATED = 64  # held-out images that an evaluation is timed on

OnUpdates = Callable[[int], Callable[[], object]]
"""Given the number of updates to come, gives what is called after each."""


def plan_images(
    recipe: TrainRecipe,
    splits: Splits,
    *,
    devices: Devices | None = None,
    folder: Path | None = None,
    tell: Tell = lambda _: None,
    on_updates: OnUpdates = lambda _: lambda: None,
) -> TrainingPlan:
    """What `train_to_bundle` would do with these arguments, and what it would take; nothing is written.

    The model is made, the memory planned and the first updates are carried out as the run would: on its batches, in its
    processes, which all call this. Where measuring will take more than a minute `tell` is called with how long before.
    `folder` is where the run would write. Raises what `train_to_bundle` raises before and in its first updates.
    """
    busy = load_average()
    job = image_job(resolve(recipe, len(splits.train)), splits, None, devices, ignore, tell)
    began = start(job.recipe, len(splits.classes))
    for line in (*began.notes, *(str(began.report).splitlines() if began.report else ())):
        tell(line)
    loss = make_loss(job, began.images)
    planned = plan_run(began.model.config, job.recipe, job.devices)
    learner = Learner.of(began.model, job.recipe, loss, job.devices, checkpointing=planned.checkpointing)
    task = ImageTask(learner, splits, job.recipe, began.images, job.devices, planned.micro)
    task.begin()
    pace = _measure(job, task, planned, on_updates)
    peak, evaluation = _peak(job.devices), _time_evaluation(job, task)
    config, disk = began.model.config, _disk(job.recipe, learner, folder or Path())
    return TrainingPlan(
        model=_model_text(job.recipe, config),
        images=(
            f"{len(splits.train):,} for training and {len(splits.val):,} held out, {len(splits.classes)} classes, of "
            f"{job.recipe.data.path}"
        ),
        recipe=job.recipe,
        devices=_devices_text(job.devices),
        memory=planned,
        measured_memory=peak,
        duration=_duration(job, pace, evaluation),
        disk=disk,
        choices=tuple(_choices(config, job, planned)),
        remarks=(*_remarks(task, planned, pace, disk), *_busy_text(busy)),
    )


def _measure(job: ImageJob, task: ImageTask, planned: MemoryPlan, on_updates: OnUpdates) -> UpdateTimes:
    """The pace of updates. One of a single micro-batch comes first: it warms up, and tells how long a whole one is."""
    batch = job.recipe.batch.model_copy(update={"size": planned.micro * job.devices.count})
    first = rehearse(replace(task, recipe=job.recipe.model_copy(update={"batch": batch})), 1, untimed=1)
    expected = max(job.devices.gather(planned.accumulate * first.seconds[0]))
    if expected < _LONG:
        updates, untimed = min(max(int(BUDGET / expected), _FEWEST), _MOST), 1
    else:
        updates, untimed = 2, 0
    if (whole := expected * (updates + untimed)) > _TOLD:
        job.tell(
            f"an update takes about {duration_text(expected)} here: measuring {updates} of them takes about "
            f"{duration_text(whole)}; Ctrl-C stops it, and nothing is lost"
        )
    return rehearse(task, updates, untimed=untimed, on_update=on_updates(updates + untimed))


def _time_evaluation(job: ImageJob, task: ImageTask) -> float:
    """Seconds of an evaluation of all held-out images, from some of them."""
    held_out, devices = job.data.val, job.devices
    some = held_out.select(range(min(len(held_out), _EVALUATED * devices.count)))
    began = time.perf_counter()
    with task.learner.averaged():
        predict_logits(
            task.learner.model,
            some,
            task.images,
            batch=min(task.micro, _EVALUATED),
            part=devices.index,
            parts=devices.count,
            skip_unreadable=_ANY_UNREADABLE,
            threads=job.recipe.run.workers,
        )
    return max(devices.gather(time.perf_counter() - began)) * len(held_out) / len(some)


def _duration(job: ImageJob, pace: UpdateTimes, evaluation: float) -> Duration:
    recipe, test = job.recipe, job.data.test
    steps, every = recipe.schedule.steps, recipe.run.eval_every
    return Duration(
        steps,
        pace,
        evaluations=-(-steps // every) if every else 1,
        evaluation=evaluation,
        test=0.0 if test is None else evaluation * len(test) / len(job.data.val),
        before=BASELINE if recipe.model.init and recipe.run.baseline else 0.0,
    )


def _disk(recipe: TrainRecipe, learner: Learner, folder: Path) -> Disk:
    run, steps = recipe.run, recipe.schedule.steps
    written = -(-steps // run.checkpoint_every) if run.checkpoint_every else 1
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    return Disk(
        checkpoint=learner.bytes,
        checkpoints=min(written, run.keep_checkpoints + 1),
        bundle=sum(tensor.nbytes for tensor in learner.model.state_dict().values()),
        free=shutil.disk_usage(there).free,
    )


def _choices(config: ModelConfig, job: ImageJob, planned: MemoryPlan) -> Iterator[OtherRun]:
    """Other ways to cut the batch and to compute, where one device makes the run."""
    if job.devices.count > 1:
        return
    device = job.devices.device

    def choice(cut: dict[str, Any], run: dict[str, Any], effect: str) -> OtherRun:
        batch = {"micro": planned.micro, "checkpointing": "on" if planned.checkpointing else "off", **cut}
        other = job.recipe.model_copy(
            update={
                "batch": job.recipe.batch.model_copy(update=batch),
                "run": job.recipe.run.model_copy(update=run),
            }
        )
        settings = {f"batch.{name}": value for name, value in cut.items()}
        settings |= {f"run.{name}": value for name, value in run.items()}
        return OtherRun(settings, peak_otherwise(planned, config, other, device), effect)

    if planned.checkpointing:
        yield choice({"checkpointing": "off"}, {}, "a quarter less arithmetic")
    else:
        yield choice({"checkpointing": "on"}, {}, "a third more arithmetic")
    if smaller := next_smaller(job.recipe, planned.micro):
        yield choice({"micro": smaller}, {}, "the same updates in smaller pieces")
    if job.recipe.run.precision == "fp32":
        yield choice({}, {"precision": "bf16"}, "faster where the processor has it: --plan measures it")
    else:
        yield choice({}, {"precision": "fp32"}, "more exact")


def _remarks(task: ImageTask, planned: MemoryPlan, pace: UpdateTimes, disk: Disk) -> tuple[str, ...]:
    told = list(pace.warnings)
    if planned.predicted > planned.available:
        told.append(planned.reason)
    if task.micro != planned.micro:
        told.append(
            f"memory ran out with {planned.micro} images at once, and the updates were made with {task.micro}: type "
            f"--set batch.micro={task.micro}"
        )
    if disk.most > disk.free:
        told.append(
            f"the disk has {bytes_text(disk.free)} free, and the run needs {bytes_text(disk.most)} and the report's: "
            "free some, or lower run.keep_checkpoints"
        )
    return tuple(told)


def _busy_text(load: float) -> tuple[str, ...]:
    """What to know of the times where other programs were running before: `load` is of the minute before."""
    cores = available_cores()
    if load < _BUSY * cores:
        return ()
    return (f"the machine was busy before (load {load:.1f} on {cores} cores): the times are of a busy machine",)


def _model_text(recipe: TrainRecipe, config: ModelConfig) -> str:
    height, width = config.image_size
    start = recipe.model.init or f"{recipe.model.name} with fresh weights"
    count = parameters(config)
    weights = f"{count:,}" if count < 1e6 else f"{count / 1e6:.1f} million"
    return f"{start}, {weights} weights, {height}x{width} pixels"


def _devices_text(devices: Devices) -> str:
    return f"{devices.count} x {devices.device.type}"


def _peak(devices: Devices) -> int:
    """The most bytes that were taken until now where the plan counts them."""
    if devices.device.type == "cuda":
        return int(torch.cuda.max_memory_reserved(devices.device))
    return peak_memory()
