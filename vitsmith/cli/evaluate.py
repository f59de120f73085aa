"""`vitsmith evaluate`: how good a model is on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.output import JsonOption, print_facts, print_json, print_table, progress, say

if TYPE_CHECKING:
    from vitsmith.evaluate.evaluation import Evaluation

WORST_CLASSES = 10


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundle, weights or a published name.")],
    data: Annotated[str, typer.Option(help="A folder of class folders (or with val/ or test/ inside), or 'digits'.")],
    split: Annotated[
        str, typer.Option(help="train, val or test; default: the held-out part if there is one, else all.")
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 32,
    engine: Annotated[str, typer.Option(help="auto, torch or onnx.")] = "auto",
    labels: Annotated[Path | None, typer.Option(help="Names of the classes, one a line in order.")] = None,
    record: Annotated[bool, typer.Option("--record", help="Write the scores into the bundle.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for scores and plots; default runs/evaluate/<name>.")] = None,
    json: JsonOption = False,
) -> None:
    """Top-1 with its confidence interval, top-5, accuracy of each class and calibration."""
    from vitsmith.data.datasets import open_labelled
    from vitsmith.evaluate.evaluation import evaluate as run
    from vitsmith.predict import Predictor
    from vitsmith.runs import Run, model_name
    from vitsmith.weights.bundle_folder import record_measurements
    from vitsmith.weights.checkpoints import load
    from vitsmith.weights.labels import with_labels

    samples, name = open_labelled(data, split)
    bundle = with_labels(load(model), labels)
    predictor = Predictor(bundle, engine, batch_size=batch)
    with progress(unit="images") as bar:
        task = bar.add_task("evaluating", total=len(samples), note="")
        evaluation = run(predictor, samples, on_image=lambda: bar.advance(task))
    with Run("evaluate", model_name(model), out) as folder:
        scores = {"model": bundle.where, "data": name, "engine": predictor.engine.name, "seconds": evaluation.seconds}
        scores |= {"classes": list(evaluation.classes), **evaluation.scores.to_dict()}
        folder.write_json("scores.json", scores)
        if record:
            record_measurements(bundle, evaluation.measurements(name, predictor.engine.name))
    if json:
        print_json(scores)
    else:
        print_evaluation(evaluation)
        say(f"scores written to {folder.folder}")


def print_evaluation(evaluation: Evaluation) -> None:
    """The scores, and the classes that fare worst."""
    scores = evaluation.scores
    low, high = scores.top1_interval
    print_facts(
        [
            ("images", scores.images),
            ("top-1", f"{scores.top1:.2%}  (95% interval {low:.2%} to {high:.2%})"),
            ("top-5", f"{scores.top5:.2%}" if len(evaluation.classes) > 5 else None),
            ("mean of classes", f"{scores.macro_recall:.2%}"),
            ("calibration error", f"{scores.calibration_error:.2%}"),
            ("cross-entropy", f"{scores.nll:.4f}"),
            ("speed", f"{scores.images / evaluation.seconds:.1f} images/s, reading included"),
        ]
    )
    rows = [
        (name, one.count, one.correct, one.accuracy)
        for name, one in zip(evaluation.classes, scores.per_class, strict=True)
        if one.accuracy is not None
    ]
    rows.sort(key=lambda row: row[3])
    shown = rows if len(rows) <= WORST_CLASSES else rows[:WORST_CLASSES]
    title = "class" if len(rows) <= WORST_CLASSES else f"class (worst {WORST_CLASSES} of {len(rows)})"
    cells = [(name, count, correct, f"{accuracy:.1%}") for name, count, correct, accuracy in shown]
    print_table((title, "images", "right", "accuracy"), cells, right=("images", "right", "accuracy"))
