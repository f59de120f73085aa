"""What the reports of all kinds of training say about a run: command, recipe, machine and versions, and how long."""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitsmith.machine import describe_machine

if TYPE_CHECKING:
    from vitsmith.training.recipes.lit import LitRecipe
    from vitsmith.training.recipes.recipe import TrainRecipe

_VERSIONS = ("vitsmith", "torch", "numpy", "pillow")


def facts_of_run(
    recipe: TrainRecipe | LitRecipe, folder: Path, command: str, images: str, *own: tuple[str, str]
) -> tuple[tuple[str, str], ...]:
    """Names and values, without empty ones; `images` says how many there are, `own` are those of this kind of run."""
    changed = recipe.model_dump(mode="json", exclude_defaults=True)
    facts = (
        ("command", command),
        ("run folder", str(folder)),
        ("date", datetime.date.today().isoformat()),
        ("data", f"{recipe.data.path}: {images}"),
        ("recipe", ", ".join(f"{name}={value}" for name, value in _flat(changed)) + "; all else by default"),
        *own,
        ("machine", describe_machine()),
        ("system", f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"),
        ("versions", versions_text()),
    )
    return tuple((name, value) for name, value in facts if value)


def versions_text() -> str:
    """'vitsmith 0.1.0, torch 2.13.0, ...'."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in _VERSIONS)


def command_of(folder: Path) -> str:
    """The command that was typed for the run in `folder`; '' where it is not known."""
    command = folder / "command.txt"
    return command.read_text(encoding="utf-8").strip() if command.exists() else ""


def interval_text(ends: tuple[float, float]) -> str:
    """'95% interval 1.0% to 2.0%'."""
    return f"95% interval {ends[0]:.1%} to {ends[1]:.1%}"


def _flat(fields: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """A recipe's fields as ('optimizer.lr', 0.01) and so on."""
    pairs: list[tuple[str, Any]] = []
    for name, value in fields.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else [(f"{prefix}{name}", value)]
    return pairs
