"""`vitsmith train`: a model from labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitsmith.cli.output import JsonOption, print_json, say


def train(
    data: Annotated[str, typer.Option(help="A folder of class folders (or with train/ and val/ inside), or 'digits'.")],
    model: Annotated[str, typer.Option(help="Architecture, see `vitsmith models`; with --init it is checked.")] = "",
    init: Annotated[str, typer.Option(help="Checkpoint, bundle or published name to fine-tune.")] = "",
    image_size: Annotated[int | None, typer.Option(min=1, help="Pixels a side; default: the model's own.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="Updates.")] = 500,
    warmup: Annotated[int, typer.Option(min=0, help="Updates over which the learning rate rises.")] = 100,
    batch: Annotated[int, typer.Option(min=1, help="Images an update.")] = 512,
    accumulate: Annotated[int, typer.Option(min=1, help="Slices a batch is computed in, to save memory.")] = 8,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 0.03,
    eval_every: Annotated[int, typer.Option(min=0, help="Updates between evaluations; 0: only at the end.")] = 100,
    val_fraction: Annotated[float, typer.Option(help="Share held out when the data has no split of its own.")] = 0.2,
    min_area: Annotated[float, typer.Option(help="Smallest training crop, as a share of the image.")] = 0.05,
    flip: Annotated[bool, typer.Option(help="Mirror half of the training images.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Decides weights, split, order and crops.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a field of the model, as --set dropout=0.1; may be repeated."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default runs/train/<data>-<model>.")] = None,
    json: JsonOption = False,
) -> None:
    """Train or fine-tune with the original recipe: SGD with momentum, warm-up and cosine, gradient clipping."""
    from vitsmith.cli.progress import TrainingProgress
    from vitsmith.data.datasets import open_dataset
    from vitsmith.runs import Run, model_name
    from vitsmith.train.recipe import parse_recipe
    from vitsmith.train.run import train_to_bundle

    recipe = parse_recipe(
        {
            "data": data,
            "model": model,
            "init_from": init,
            "image_size": image_size,
            "overrides": parse_settings(set_ or []),
            "steps": steps,
            "warmup_steps": warmup,
            "batch": batch,
            "accumulate": accumulate,
            "learning_rate": lr,
            "eval_every": eval_every,
            "val_fraction": val_fraction,
            "augmentation": {"area": (min_area, 1.0), "flip": flip},
            "seed": seed,
        }
    )
    splits = open_dataset(data, seed=seed, val_fraction=val_fraction)
    name = f"{Path(data).name}-{model_name(init) if init else model}".replace("/", "_")
    with Run("train", name, out) as run:
        say(f"{len(splits.train)} training and {len(splits.val)} held-out images, {len(splits.classes)} classes")
        say(f"run folder: {run.folder}")
        with TrainingProgress(recipe.steps) as shown:
            trained = train_to_bundle(recipe, splits, run, on_event=shown.on_event, on_start=say)
    scores, bundle = trained.result.final.scores, trained.bundle.folder
    low, high = scores.top1_interval
    if json:
        interval = [low, high]
        print_json({"bundle": str(bundle), "top1": scores.top1, "top1_interval": interval, "images": scores.images})
    else:
        typer.echo(f"held-out top-1 {scores.top1:.2%} (95% interval {low:.2%} to {high:.2%})")
        typer.echo(f"bundle  {bundle}")
        typer.echo(f"next    vitsmith predict {bundle} IMAGES")
        typer.echo(f"        vitsmith export {bundle} --to onnx")


def parse_settings(settings: list[str]) -> dict[str, Any]:
    """['dropout=0.1', 'pooling=gap'] -> {'dropout': 0.1, 'pooling': 'gap'}. Raises InputError without a '='."""
    import json

    from vitsmith.errors import InputError

    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals:
            raise InputError(f"--set {setting}: write it as field=value, for example --set dropout=0.1")
        try:
            values[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            values[name.strip()] = text.strip()
    return values
