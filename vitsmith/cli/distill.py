"""`vitsmith distill`: a small model that learns from a large one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from vitsmith.cli.output import JsonOption
from vitsmith.cli.places import ForceOption, OutOption
from vitsmith.cli.train import DataOption, SetOption


def distill(
    teacher: Annotated[str, typer.Option(help="Bundle or checkpoint that knows the classes of the data.")],
    data: DataOption,
    model: Annotated[str, typer.Option(help="Architecture of the student, see `vitsmith models`.")] = "",
    init: Annotated[str, typer.Option(help="Checkpoint or bundle that the student starts from.")] = "",
    kind: Annotated[str, typer.Option(help="soft, deit-soft or deit-hard; default: the recipe's.")] = "",
    temperature: Annotated[float | None, typer.Option(help="Softens the answers; default: the recipe's.")] = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name or .toml file; see docs/train.md.")] = "distill",
    image_size: Annotated[int | None, typer.Option(min=1, help="Pixels a side; default: the recipe's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates; default: the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images an update; default: the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; default: the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides weights, split, order and crops.")] = None,
    set_: SetOption = None,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a student on a teacher's answers to the same augmented views."""
    from vitsmith.cli import training

    given: dict[str, dict[str, Any]] = {
        "data": {"path": data},
        "model": {"name": model, "init": init, "image_size": image_size},
        "distill": {"teacher": teacher, "kind": kind, "temperature": temperature},
        "schedule": {"steps": steps},
        "batch": {"size": batch},
        "optimizer": {"lr": lr},
        "run": {"seed": seed},
    }
    if kind.startswith("deit"):
        given["model"]["config"] = {"distillation_token": True}
    training.begin("distill", training.recipe_from(recipe, given, set_ or []), out, force=force, json=json)
