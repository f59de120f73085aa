"""`vitsmith train`: a model from labelled images."""

from __future__ import annotations

from typing import Annotated

import typer

from vitsmith.cli.arguments.completion import architectures, models
from vitsmith.cli.arguments.inputs import choices_of, either_data
from vitsmith.cli.arguments.options import (
    DATA_SETS,
    DataAgainOption,
    ForceOption,
    JsonOption,
    OutOption,
    PixelsOption,
    PlanOption,
    RateOption,
    ReadAsOption,
    RecipeOption,
    ResumeOption,
    SetOption,
    StepsOption,
    UpdateSizeOption,
    data_argument,
    seed_option,
)
from vitsmith.needs_torch import require_torch


def train(
    data: Annotated[str, data_argument(DATA_SETS)] = "",
    recipe: RecipeOption = "",
    model: Annotated[
        str,
        typer.Option(
            help="Bundle, run, weights file, hf:OWNER/NAME or published name to fine-tune.",
            autocompletion=models,
        ),
    ] = "",
    arch: Annotated[
        str,
        typer.Option(
            help="Architecture to train from random weights (vitsmith models); with --model: its architecture.",
            autocompletion=architectures,
        ),
    ] = "",
    read_as: ReadAsOption = None,
    image_size: PixelsOption = None,
    steps: StepsOption = None,
    batch_size: UpdateSizeOption = None,
    lr: RateOption = None,
    seed: Annotated[int | None, seed_option("weights, split, order and crops")] = None,
    set_: SetOption = None,
    data_: DataAgainOption = "",
    resume: ResumeOption = None,
    plan: PlanOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train or fine-tune a model by a recipe; write a bundle and a report."""
    require_torch()
    from vitsmith.cli.arguments import training
    from vitsmith.verbs.recipe import check_has_weights, common_fields

    check_has_weights(model)
    given = common_fields(data=either_data(data, data_), steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    given["model"] = {"name": arch, "init": model, "read_as": choices_of(read_as), "image_size": image_size}
    if resume is not None:
        training.check_not_planned(resume, plan=plan)
        training.check_resumed_in_place(resume, out, force=force)
        training.resume(resume, recipe, given, set_ or [], json=json)
        return
    start = training.plan if plan else training.begin
    start("train", training.recipe_from(recipe or "finetune", given, set_ or []), out, force=force, json=json)
