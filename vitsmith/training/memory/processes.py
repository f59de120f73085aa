"""Makes one memory plan for all processes of a run, which fits on each of them."""

from __future__ import annotations

import os

from vitsmith.errors import InputError
from vitsmith.machine import resident_memory
from vitsmith.models.config import ModelConfig
from vitsmith.training.checkpoint.disk import TrainingCheckpoint
from vitsmith.training.devices import Devices, is_sharded
from vitsmith.training.memory.plan import (
    MemoryPlan,
    available_memory,
    give_back_freed_memory,
    plan_memory,
)
from vitsmith.training.recipes.recipe import TrainRecipe


def plan_run(
    config: ModelConfig, recipe: TrainRecipe, devices: Devices, checkpoint: TrainingCheckpoint | None = None
) -> MemoryPlan:
    """Plans how the run fits into memory, the same in all processes.

    A resumed run on as many devices as before keeps its micro-batch, because another one rounds differently. Where
    memory is short, malloc is set to return freed memory at once, which costs time.

    Raises InputError, in all processes, when it does not fit.
    """
    if checkpoint is not None and checkpoint.facts["devices"] == devices.count:
        recipe = _cut_as(recipe, checkpoint.facts["micro"], checkpoint.facts["checkpointing"])
    plan: MemoryPlan | None = None
    refusal = ""
    try:
        plan = _plan_here(config, recipe, devices)
    except InputError as error:
        refusal = str(error)
    found = devices.gather((refusal, plan.micro if plan else 0, plan.checkpointing if plan else False))
    refusals = [one for one, _, _ in found if one]
    if plan is None or refusals:
        raise InputError(refusals[0])
    micro, checkpointing = min(one for _, one, _ in found), any(one for _, _, one in found)
    if (micro, checkpointing) == (plan.micro, plan.checkpointing):
        return plan
    return _plan_here(config, _cut_as(recipe, micro, checkpointing), devices)  # what fits on all of them


def _plan_here(config: ModelConfig, recipe: TrainRecipe, devices: Devices) -> MemoryPlan:
    """This process's own plan; processes on one machine's processors share its memory."""

    def planned() -> MemoryPlan:
        available = available_memory(devices.device)
        if devices.device.type == "cpu":
            held = resident_memory()
            available = held + (available - held) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return plan_memory(
            config,
            recipe,
            devices=devices.count,
            sharded=is_sharded(recipe, devices),
            device=devices.device,
            available=available,
        )

    try:
        return planned()
    except InputError:
        if devices.device.type == "cpu" and give_back_freed_memory():
            return planned()
        raise


def _cut_as(recipe: TrainRecipe, micro: int, checkpointing: bool) -> TrainRecipe:
    batch = {"micro": micro, "checkpointing": "on" if checkpointing else "off"}
    return recipe.model_copy(update={"batch": recipe.batch.model_copy(update=batch)})
