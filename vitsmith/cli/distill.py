"""`vitsmith distill`: a small model that learns from a large one."""

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
    SetOption,
    StepsOption,
    UpdateSizeOption,
    data_argument,
    read_as_option,
    seed_option,
)
from vitsmith.needs_torch import require_torch


def distill(
    teacher: Annotated[
        str, typer.Option(help="Bundle, run folder or weights file trained on the classes of the data.")
    ],
    data: Annotated[str, data_argument(DATA_SETS)] = "",
    teacher_read_as: Annotated[list[str] | None, read_as_option("a teacher", "--teacher-read-as")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="Start of the student: bundle, run folder, weights file, hf:OWNER/NAME or published name.",
            autocompletion=models,
        ),
    ] = "",
    arch: Annotated[
        str,
        typer.Option(
            help="Architecture of a student with fresh weights (vitsmith models).", autocompletion=architectures
        ),
    ] = "",
    kind: Annotated[str, typer.Option(help="Distillation: soft, deit-soft or deit-hard; default: the recipe's.")] = "",
    temperature: Annotated[float | None, typer.Option(help="Softmax temperature; default: the recipe's.")] = None,
    recipe: RecipeOption = "distill",
    read_as: ReadAsOption = None,
    image_size: PixelsOption = None,
    steps: StepsOption = None,
    batch_size: UpdateSizeOption = None,
    lr: RateOption = None,
    seed: Annotated[int | None, seed_option("weights, split, order and crops")] = None,
    set_: SetOption = None,
    data_: DataAgainOption = "",
    plan: PlanOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Train a small model on the answers of a large one; write a bundle and a report."""
    require_torch()
    from vitsmith.cli.arguments import training
    from vitsmith.verbs.recipe import check_has_weights, common_fields

    check_has_weights(model)
    given = common_fields(data=either_data(data, data_), steps=steps, batch_size=batch_size, lr=lr, seed=seed)
    given["model"] = {"name": arch, "init": model, "read_as": choices_of(read_as), "image_size": image_size}
    chosen = choices_of(teacher_read_as, "--teacher-read-as")
    given["distill"] = {"teacher": teacher, "teacher_read_as": chosen, "kind": kind, "temperature": temperature}
    if kind.startswith("deit"):
        given["model"]["config"] = {"distillation_token": True}
    start = training.plan if plan else training.begin
    start("distill", training.recipe_from(recipe, given, set_ or []), out, force=force, json=json)
