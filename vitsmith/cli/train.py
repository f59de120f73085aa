"""`vitsmith train`: a model from labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitsmith.cli.output import JsonOption
from vitsmith.cli.places import ForceOption, OutOption

DataOption = Annotated[
    str, typer.Option(help="Folder of class folders, .csv, .jsonl, tar shards, 'hf:NAME' or 'digits'.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of the recipe, as optimizer.lr=0.01; may be repeated.")
]


def train(
    data: DataOption = "",
    recipe: Annotated[
        str, typer.Option(help="A recipe's name or .toml file; see docs/train.md; default finetune.")
    ] = "",
    model: Annotated[str, typer.Option(help="Architecture, see `vitsmith models`; with --init it is checked.")] = "",
    init: Annotated[str, typer.Option(help="Checkpoint, bundle or published name to fine-tune.")] = "",
    image_size: Annotated[int | None, typer.Option(min=1, help="Pixels a side; default: the recipe's.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Updates; default: the recipe's.")] = None,
    batch: Annotated[int | None, typer.Option(min=1, help="Images an update; default: the recipe's.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate; default: the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Decides weights, split, order and crops.")] = None,
    set_: SetOption = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")] = None,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train or fine-tune a model, as a recipe says, and leave a bundle with a report."""
    from vitsmith.cli import training
    from vitsmith.errors import InputError

    given = {
        "data": {"path": data},
        "model": {"name": model, "init": init, "image_size": image_size},
        "schedule": {"steps": steps},
        "batch": {"size": batch},
        "optimizer": {"lr": lr},
        "run": {"seed": seed},
    }
    if resume is not None:
        if out is not None or force:
            raise InputError(f"a run is resumed where it is, in {resume}: leave --out and --force away")
        training.resume(resume, recipe, given, set_ or [], json=json)
        return
    training.begin("train", training.recipe_from(recipe or "finetune", given, set_ or []), out, force=force, json=json)
