"""How a recipe is made from the arguments of a verb that trains."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vitsmith.arguments import instance
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.errors import InputError, UnknownNameError
from vitsmith.escapes import shell_quoted
from vitsmith.models.presets import find_preset
from vitsmith.training.recipes.file import Fields, is_own, lay_over, merge, parse_fields, parse_recipe, read_recipe
from vitsmith.training.recipes.lit import LitRecipe, without_fresh
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.recipes.unused_settings import refuse_idle
from vitsmith.verbs.inputs import described_data
from vitsmith.weights.fetch.published import find_checkpoint

Location = str | os.PathLike[str]


def make_recipe(name: Location, changes: Fields) -> TrainRecipe:
    """The recipe called `name` with changes applied. Raises ConfigError, also for changes without effect."""
    called = text_of(name, "recipe")
    base = read_recipe(called)
    recipe = parse_recipe(lay_over(base, changes))
    refuse_idle(recipe, base if is_own(called) else {}, changes)
    return recipe


def make_lit_recipe(name: Location, changes: Fields) -> LitRecipe:
    """As `make_recipe`, for a recipe of `lit`."""
    called = text_of(name, "recipe")
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


def asked_fields(data: Location | DataSpec, settings: Mapping[str, Any] | None, **common: Any) -> Fields:
    """The fields of a recipe that the common arguments and `settings` give."""
    described = described_data(data)
    fields = without_empty(common_fields(data=described.path, **common))
    fields = merge(fields, without_empty({"data": described.model_dump(exclude_defaults=True)}))
    for name, value in (settings or {}).items():
        for part in reversed(name.split(".")):
            value = {part: value}
        fields = merge(fields, value)
    return fields


def text_of(given: Location, what: str) -> str:
    """A path or a name as text. Raises InputError, which names the argument `what`, for anything else."""
    return os.fsdecode(instance(given, (str, os.PathLike), what, "a path or a name"))
