"""Scenarios: for what kind of machine and use a model is chosen, as rows of data that a user can read and change."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from vitsmith.arguments import known_name
from vitsmith.choosing.catalogue import Task
from vitsmith.engines.registry import ENGINES
from vitsmith.engines.settings import PRECISIONS
from vitsmith.errors import ConfigError, InputError, UnknownNameError, shown
from vitsmith.fields import Finite, Frozen, Number, Pixels, PositiveInt, mistakes_in
from vitsmith.files.contents import read_words

DEFAULT = "cpu-server"
"""The scenario where neither one nor a budget is given."""
_LARGEST = 1 << 20  # bytes


class Scenario(Frozen):
    """One row; `scenarios.toml` says what each field means."""

    name: str = Field(min_length=1)
    what: str = ""
    here: bool = True
    task: Task = "classify"
    engines: tuple[str, ...] = Field(min_length=1)
    precisions: tuple[str, ...] = Field(("fp32",), min_length=1)
    batch: PositiveInt = 1
    threads: Annotated[int, Field(ge=0), Number] = 0
    photo: tuple[Pixels, Pixels] = (768, 1024)
    latency: str = ""
    throughput: Annotated[float, Field(gt=0), Number] | None = None
    memory: str = ""
    size: str = ""
    gflops: Annotated[Finite, Field(gt=0)] | None = None
    source: Literal["vitsmith", "file"] = "vitsmith"


@functools.cache
def scenarios() -> Mapping[str, Scenario]:
    """The scenarios that come with vitsmith, by name."""
    text = resources.files(__package__).joinpath("scenarios.toml").read_text(encoding="utf-8")
    return {name: Scenario(name=name, **fields) for name, fields in tomllib.loads(text).items()}


def find_scenario(name: str) -> Scenario:
    """A scenario by its name, or the one in a `.toml` file.

    Raises UnknownNameError with the closest names, InputError for a file that cannot be read, and ConfigError with all
    mistakes of one that can.
    """
    if name.endswith(".toml"):
        return _read(Path(name))
    if name not in scenarios():
        raise UnknownNameError("scenario", name, scenarios())
    return scenarios()[name]


def _read(path: Path) -> Scenario:
    words = read_words(path, "a scenario", largest=_LARGEST)
    try:
        tables = tomllib.loads(words.decode("utf-8-sig"))
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise InputError(f"{path} is not a scenario that can be read: {' '.join(str(error).split())[:200]}") from None
    return _scenario(path, tables)


def _scenario(path: Path, tables: Mapping[str, Any]) -> Scenario:
    if not tables:
        raise InputError(f"{path} is empty: a file of a scenario has one table, as [edge]")
    if len(tables) != 1 or not all(isinstance(fields, dict) for fields in tables.values()):
        raise InputError(f"{path} has {shown(list(tables))}: a file of a scenario has one table, as [edge]")
    ((name, fields),) = tables.items()
    reserved = [key for key in ("name", "source") if key in fields]
    if reserved:
        raise ConfigError(f"{path}: [{name}] has {reserved[0]!r}, which is not a field of a scenario")
    try:
        scenario = Scenario.model_validate({**fields, "name": name, "source": "file"})
    except ValidationError as error:
        raise ConfigError(f"{path}: [{name}] {mistakes_in(error)}") from None
    for engine in scenario.engines:
        known_name(engine, f"engine of [{name}] in {path}", ENGINES)
    for precision in scenario.precisions:
        known_name(precision, f"precision of [{name}] in {path}", PRECISIONS[1:])
    return scenario
