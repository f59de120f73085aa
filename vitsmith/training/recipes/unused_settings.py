"""Refuses settings that have no effect beside others: whoever makes them expects an effect.

Only settings of the user are checked: changes on the command line, and what the user's own recipe file sets. The
recipes that come with vitsmith may hold settings for when another is changed, and a resumed run keeps what it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from vitsmith.errors import ConfigError
from vitsmith.models.config import MixerConfig
from vitsmith.models.presets import find_preset
from vitsmith.training.recipes.file import Fields
from vitsmith.training.recipes.lit import LEARNT, LitRecipe
from vitsmith.training.recipes.recipe import OptimizerSpec, TrainRecipe


def refuse_idle(recipe: TrainRecipe | LitRecipe, own: Fields, changes: Fields) -> None:
    """Raises ConfigError that lists every setting without effect.

    Args:
        recipe: the recipe with all changes.
        own: the fields of the user's recipe file; {} for one that comes with vitsmith. Its defaults are accepted.
        changes: the changes on the command line.
    """
    told = []
    for name, why in _idle(recipe):
        value, usual = _value(recipe, name), _usual(recipe, name)
        if _says(changes, name) or (_says(own, name) and value != usual):
            told.append(f"{name} changes nothing: {why}")
    if told:
        raise ConfigError(f"{'; '.join(told)}: leave {'it' if len(told) == 1 else 'them'} out")


def _idle(recipe: TrainRecipe | LitRecipe) -> Iterator[tuple[str, str]]:
    """Yields the fields without effect, and why they have none."""
    yield from _idle_optimizer(recipe.optimizer)
    schedule = recipe.schedule
    for updates, passes in (("steps", "epochs"), ("warmup", "warmup_epochs")):
        if getattr(schedule, passes) is not None:
            yield f"schedule.{updates}", f"schedule.{passes} sets the length"
    if recipe.data.val:
        yield "data.val_fraction", "data.val names the held-out images"
    if recipe.augment is not None and recipe.augment.area == (1, 1):
        yield "augment.aspect", "augment.area = [1, 1] takes the whole image"
    yield from _idle_training(recipe) if isinstance(recipe, TrainRecipe) else _idle_lit(recipe)


def _idle_optimizer(optimizer: OptimizerSpec) -> Iterator[tuple[str, str]]:
    other = {"sgd": ("betas", "eps"), "adamw": ("momentum", "momentum_dtype")}[optimizer.name]
    for field in other:
        yield f"optimizer.{field}", f"optimizer.name = {optimizer.name} has none"
    used = {"none": (), "sam": ("rho",), "gsam": ("rho", "rho_min", "alpha")}[optimizer.sharpness]
    for field in ("rho", "rho_min", "alpha"):
        if field not in used:
            yield f"optimizer.{field}", f"optimizer.sharpness = {optimizer.sharpness} does not use it"


def _idle_training(recipe: TrainRecipe) -> Iterator[tuple[str, str]]:
    model, distill = recipe.model, recipe.distill
    if model.init:
        yield "model.position_std", "model.init brings trained position embeddings"
    else:
        for field in ("init_size", "read_as"):
            yield f"model.{field}", "there is no model.init"
        if model.name and isinstance(find_preset(model.name)[0].config, MixerConfig):
            yield "model.position_std", "a Mixer has no position embeddings"
    if distill is not None:
        if distill.kind == "deit-hard":
            yield "distill.temperature", "distill.kind = deit-hard learns the teacher's answer, not its probabilities"
        if distill.kind == "soft" and distill.weight in (None, 1):
            yield "loss.smoothing", "the labels have no share in the loss: distill.weight = 1"
        if distill.weight == 0:
            yield "distill.weight", "the teacher has no share in the loss: take `vitsmith train`"
            yield "distill.temperature", "the teacher has no share in the loss"


def _idle_lit(recipe: LitRecipe) -> Iterator[tuple[str, str]]:
    text, loss = recipe.text, recipe.loss
    if not text.init:
        yield "text.read_as", "there is no text.init"
    if loss.kind == "softmax":
        yield "loss.bias", "loss.kind = softmax has none"
    if text.vocabulary not in ("", LEARNT):
        yield "text.pieces", "text.vocabulary names a file"
    if text.size and text.width and text.depth and text.heads and text.mlp_width:
        yield "text.size", "text.width, text.depth, text.heads and text.mlp_width set all of it"
    if recipe.batch.micro is not None and recipe.batch.micro > recipe.batch.size:
        yield "batch.micro", f"a batch has only {recipe.batch.size}"


def _says(fields: Fields, name: str) -> bool:
    inner: Any = fields
    for part in name.split("."):
        if not isinstance(inner, Mapping) or inner.get(part) is None:
            return False
        inner = inner[part]
    return True


def _value(recipe: BaseModel, name: str) -> Any:
    section, field = name.split(".")
    return getattr(getattr(recipe, section), field)


def _usual(recipe: BaseModel, name: str) -> Any:
    section, field = name.split(".")
    return type(getattr(recipe, section)).model_fields[field].default
