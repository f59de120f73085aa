"""Recipes as TOML files, and the changes a command line makes to them. Mistakes are reported with close valid names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from copy import deepcopy
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from vitsmith.errors import ConfigError, InputError, UnknownNameError, shown, suggestion
from vitsmith.escapes import shortened
from vitsmith.files.contents import read_words
from vitsmith.files.regular import why_not_regular
from vitsmith.json_text import DEEPEST, parse_json, read_json, to_json
from vitsmith.training.recipes.recipe import TrainRecipe

Fields = dict[str, Any]
_LARGEST = 1 << 20
"""Bytes of a recipe file."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
RecipeT = TypeVar("RecipeT", bound=BaseModel)


def recipe_names(verb: str = "") -> list[str]:
    """Names of the recipes that come with vitsmith, for `train` and `distill`, or for another verb."""
    folder = resources.files("vitsmith") / "recipes" / verb
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def read_recipe(name: str, verb: str = "") -> Fields:
    """The fields of a recipe that comes with vitsmith for a verb, or of a `.toml` (or `.json`) file.

    Raises UnknownNameError, and InputError for a file that cannot be read or is not TOML.
    """
    path = Path(name)
    if not is_own(name):
        if name not in recipe_names(verb):
            raise UnknownNameError("recipe", name, recipe_names(verb))
        text = (resources.files("vitsmith") / "recipes" / verb / f"{name}.toml").read_text(encoding="utf-8")
        return tomllib.loads(text)
    try:
        told = why_not_regular(path) or ("" if path.exists() else "no such file")
    except OSError as error:  # a folder that may not be looked into, a name that is too long
        told = error.strerror or "no such file"
    if told:
        raise InputError(f"cannot read the recipe {path}: {told}")
    try:
        if path.suffix.lower() == ".json":
            fields = read_json(path, finite=False)
        else:
            fields = tomllib.loads(read_words(path, "a recipe", largest=_LARGEST).decode("utf-8-sig"))
    except RecursionError:
        raise InputError(f"{path} is not a recipe that can be read: it is nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise InputError(f"{path} is not a recipe that can be read: {' '.join(str(error).split())[:200]}") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path} is not a recipe: it must hold tables such as [optimizer]")
    return fields


def is_own(name: str) -> bool:
    """Whether a recipe is a file of the user's, not one that comes with vitsmith."""
    return Path(name).suffix.lower() in (".toml", ".json")


def parse_settings(settings: Iterable[str]) -> Fields:
    """['optimizer.lr=0.01', 'model.init=B_16.npz'] -> {'optimizer': {'lr': 0.01}, 'model': {'init': 'B_16.npz'}}.

    Values are JSON where they can be, and text otherwise. Raises InputError that lists every setting without '='.
    """
    fields: Fields = {}
    wrong = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or not all(name.strip().split(".")) or name.count(".") > DEEPEST:
            wrong.append(setting)
            continue
        *sections, last = name.strip().split(".")
        value = _parse_value(text)
        inner = fields
        for section in sections:
            inner = inner.setdefault(section, {})
            if not isinstance(inner, dict):
                raise InputError(f"--set {setting}: {section!r} was set to a value, so it has no fields")
        if last in inner:
            raise InputError(f"--set {name.strip()} is given twice: give each field once")
        inner[last] = value
    if wrong:
        told = ", ".join(shortened(setting, 60) for setting in wrong)
        raise InputError(f"--set {told}: write section.field=value, for example --set optimizer.lr=0.01")
    return fields


def _parse_value(text: str) -> Any:
    """JSON where it can be, also numbers that JSON would write otherwise (.5, +1, 5.), and text otherwise."""
    try:
        return parse_json(text, "", finite=False)
    except InputError:
        bare = text.strip()
        return float(bare) if _NUMBER.fullmatch(bare) else bare


def merge(*layers: Mapping[str, Any]) -> Fields:
    """Merges tables field by field; the later value wins."""
    merged: Fields = {}
    for layer in layers:
        for name, value in layer.items():
            below = merged.get(name)
            merged[name] = merge(below, value) if isinstance(value, Mapping) and isinstance(below, dict) else value
    return merged


def lay_over(base: Mapping[str, Any], *later: Mapping[str, Any]) -> Fields:
    """A recipe's fields with changes applied. Updates among the changes replace the recipe's passes, and passes its
    updates."""
    changes, below = deepcopy(merge(*later)), deepcopy(merge(base))
    schedule, before = changes.get("schedule", {}), below.get("schedule", {})
    for updates, passes in (("steps", "epochs"), ("warmup", "warmup_epochs")):
        if not isinstance(schedule, dict) or not isinstance(before, dict):
            break
        if updates in schedule and passes not in schedule:
            schedule[passes] = None  # the recipe's, which would win
        if schedule.get(passes) is not None:
            before.pop(updates, None)  # the recipe's, which passes take the place of
    return merge(below, changes)


def parse_recipe(fields: Mapping[str, Any]) -> TrainRecipe:
    """A checked recipe of `train` or `distill` from plain data; errors as `parse_fields`."""
    return parse_fields(fields, TrainRecipe)


def parse_fields(fields: Mapping[str, Any], kind: type[RecipeT]) -> RecipeT:
    """A checked recipe from plain data. Raises ConfigError with every mistake, and close names for unknown ones."""
    needed: Fields = {name: {} for name, field in kind.model_fields.items() if field.is_required()}
    try:
        return kind.model_validate(needed | dict(fields))
    except ValidationError as error:
        raise ConfigError("recipe: " + "; ".join(_explain(mistake, kind) for mistake in error.errors())) from None


def check_same(old: BaseModel, new: BaseModel, folder: Path) -> None:
    """Raises ConfigError that lists every difference between a run's recipe and the one to resume it with."""
    if told := differences(old, new):
        raise ConfigError(
            f"the run in {folder} cannot go on with another recipe ({'; '.join(told)}): resume it without these "
            "changes, or start a new run"
        )


def check_begun_with(facts: Mapping[str, Any], recipe: BaseModel, folder: Path) -> None:
    """Raises ConfigError that lists every difference between a run's recipe.json and the recipe that it began with.

    `facts` are the checkpoint's; one of an earlier vitsmith does not hold its recipe.
    """
    begun = facts.get("recipe")
    if begun is not None and (told := differences(parse_fields(begun, type(recipe)), recipe)):
        raise ConfigError(
            f"recipe.json in {folder} is no longer the recipe that the run began with ({'; '.join(told)}): "
            "restore its recipe, or start a new run"
        )


def differences(old: BaseModel, new: BaseModel) -> list[str]:
    """Lists what differs, as 'optimizer.lr: 0.03 -> 0.01'."""
    before, after = _flat(old.model_dump(mode="json")), _flat(new.model_dump(mode="json"))
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {to_json(before.get(name), ascii_only=True)} -> {to_json(after.get(name), ascii_only=True)}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Fields:
    flat: Fields = {}
    for name, value in fields.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


_SHORT = 60  # a longer text is hardly one name of a list


def _explain(mistake: Any, kind: type[BaseModel]) -> str:
    where = [str(part) for part in mistake["loc"]]
    name = ".".join(where)
    if mistake["type"] == "extra_forbidden":
        if elsewhere := _in_sections(where[-1], kind):
            return f"unknown field {name!r}: did you mean {' or '.join(elsewhere)}?"
        return f"unknown field {name!r}: {suggestion(where[-1], _table(where[:-1], kind).model_fields)}"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "missing" and isinstance(where[-1], str) and not where[-1].isdecimal():
        return f"{name} is missing: {_table(where[:-1], kind).model_fields[where[-1]].description}"
    given = mistake["input"]
    if mistake["type"] == "tuple_type" and isinstance(given, str) and len(given) < _SHORT:
        return f"{name}: give a list, as [{to_json(given)}]"
    if mistake["type"] == "value_error":
        return f"{name}: {message}"
    return f"{name}: {message} (got {shown(mistake['input'])})"


def _in_sections(field: str, kind: type[BaseModel]) -> list[str]:
    """The full names of a field that was given without its section, or in a wrong one."""
    sections = {name: _table([name], kind) for name in kind.model_fields}
    return [f"{name}.{field}" for name, section in sections.items() if field in section.model_fields]


def _table(sections: Iterable[str], kind: type[BaseModel]) -> type[BaseModel]:
    """The table that a path leads to."""
    model = kind
    for section in sections:
        annotation = model.model_fields[section].annotation
        candidates = [annotation, *get_args(annotation)]
        model = next(one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel))
    return model
