"""A pruned model learns from the model it was cut from: a short distillation, arXiv 2106.05237.

Labels are not used, so images without labels are enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from vitsmith.compress.images import TaskImages
from vitsmith.data.sets.samples import Splits
from vitsmith.errors import ConfigError
from vitsmith.models.build import ImageModel
from vitsmith.models.config import LiTConfig
from vitsmith.specs import Labels
from vitsmith.training.devices import Devices
from vitsmith.training.images.task import ImageTask
from vitsmith.training.images.teacher import Teacher, is_repeating
from vitsmith.training.learner import Learner
from vitsmith.training.loop import Training
from vitsmith.training.memory.processes import plan_run
from vitsmith.training.monitor.events import Listener, ignore
from vitsmith.training.recipes.file import lay_over, parse_recipe
from vitsmith.training.recipes.recipe import ModelSpec, TrainRecipe
from vitsmith.training.stop import StopRequest
from vitsmith.training.update.losses import DistillLoss
from vitsmith.weights.bundle.bundle import Bundle

STEPS = 300
FIELDS: dict[str, Any] = {
    "augment": {"area": [0.8, 1.0], "aspect": [0.8, 1.25], "flip": False},
    "batch": {"size": 64},
    "distill": {"kind": "soft", "temperature": 2.0},
    "optimizer": {"name": "adamw", "weight_decay": 0.0, "clip": 1.0},
    "schedule": {"steps": STEPS},
    "run": {"eval_every": 0, "checkpoint_every": 0},
}
"""Sections of a recipe of `vitsmith distill`. No flips: a mirrored image may be of another class.

Measured on digits (benchmarks/results/pruning_*): with few images, crops of at least 0.8 of the image were four points
better than whole images, and better than smaller crops; with many images, whole ones were as good.
"""
LR = 0.002
_LR_WIDTH = 64  # width of the model with which LR was measured


def recovery_recipe(original: Bundle, data: str, *changes: Mapping[str, Any]) -> TrainRecipe:
    """The recipe above for a model and a data set, with `changes` applied; a tenth of its updates is warm-up.

    The learning rate falls with the width: Adam's steps have the same size for every weight, and a wide layer adds up
    more of them (arXiv 2203.03466). Raises ConfigError with every mistake.
    """
    assert not isinstance(original.config, LiTConfig)
    given = {
        "data": {"path": data},
        "model": {"init": original.where},
        "distill": {"teacher": original.where},
        "loss": {"kind": original.head},
        "optimizer": {"lr": LR * min(_LR_WIDTH / original.config.width, 1)},
    }
    fields = lay_over(FIELDS, given, *changes)
    steps = fields["schedule"]["steps"]
    if isinstance(steps, int):
        fields["schedule"] = {"warmup": steps // 10, **fields["schedule"]}
    recipe = parse_recipe(fields)
    begun = recipe.model.model_copy(update={"freeze": ()})
    teacher = recipe.distill.teacher if recipe.distill else ""
    if (begun, recipe.data.path, teacher) != (ModelSpec(init=original.where), data, original.where):
        raise ConfigError("model (except model.freeze), data.path and distill.teacher are set by prune: leave them out")
    if recipe.distill is None or recipe.distill.kind != "soft":
        raise ConfigError("distill.kind: a pruned model keeps its head and is distilled with 'soft'")
    if recipe.loss.kind != original.head:
        raise ConfigError(f"loss.kind: a pruned model's head keeps its meaning, {original.head}: leave it out")
    return recipe


def recover(
    pruned: ImageModel, original: Bundle, images: TaskImages, recipe: TrainRecipe, *, on_event: Listener = ignore
) -> ImageModel:
    """Trains the pruned model in place on the original's answers; returns a model on the CPU in eval mode.

    `recipe` must count its length in updates, not in passes (`training.images.run.resolve`). Raises what `Training.go`
    raises: InputError when memory runs out or the loss is not finite, DatasetError.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    devices = Devices(device)
    assert recipe.distill is not None
    splits = Splits(images.calibration, images.evaluation)
    plan = plan_run(pruned.config, recipe, devices)
    teacher = Teacher(
        replace(original, labels=original.labels or Labels(names=splits.classes)),  # a bundle may have no names
        splits.classes,
        original.preprocessing,
        device,
        precision=recipe.run.precision,
        remember=is_repeating(recipe.augment),
    )
    loss = DistillLoss(teacher, recipe.distill, original.head)
    pruned.requires_grad_(True)
    learner = Learner.of(pruned, recipe, loss, devices, checkpointing=plan.checkpointing)
    task = ImageTask(learner, splits, recipe, original.preprocessing, devices, plan.micro)
    Training(task, StopRequest(), on_event=on_event).go()
    return learner.whole_model()
