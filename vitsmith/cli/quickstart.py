"""`vitsmith quickstart`: the whole road in minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vitsmith.cli.output import JsonOption, print_json, print_table, say


def quickstart(
    out: Annotated[Path, typer.Option(help="Folder of the run; numbered when it exists.")] = Path("runs/quickstart"),
    seed: Annotated[int, typer.Option(min=0, help="Decides fresh weights and the order of images.")] = 0,
    json: JsonOption = False,
) -> None:
    """Train, evaluate, export, check and predict on real handwriting: offline, in under two minutes."""
    from vitsmith.cli.progress import TrainingProgress
    from vitsmith.quickstart import check_packages, next_steps, run_quickstart
    from vitsmith.runs import Run
    from vitsmith.train.digits import DIGITS_RECIPE

    check_packages()
    with Run("quickstart", "", out) as run:
        shown = TrainingProgress(DIGITS_RECIPE.steps)

        def announce(step: str) -> None:
            shown.start() if step.startswith("1/") else shown.stop()
            say(step)

        try:
            found = run_quickstart(run, seed=seed, say=announce, on_event=shown.on_event)
        finally:
            shown.stop()
    scores = found.evaluation.scores
    if json:
        bundles = [
            {"name": one.name, "mib": one.mib, "top1": one.top1, "latency_ms": one.speed.latency_ms}
            | {"images_per_second": one.speed.images_per_second}
            for one in found.measured
        ]
        print_json(
            {
                "top1": scores.top1,
                "top1_interval": list(scores.top1_interval),
                "images": scores.images,
                "bundles": bundles,
                "gate": {"passed": found.verdict.passed, "relative": found.verdict.relative},
                "report": str(found.report),
            }
        )
        return
    from vitsmith.report.sections import engines_table

    table = engines_table(found.measured)
    print_table(table.columns, table.rows, right=table.columns[1:])
    low, high = scores.top1_interval
    typer.echo(f"held-out top-1 {scores.top1:.2%} (95% interval {low:.2%} to {high:.2%}, {scores.images} images)")
    typer.echo(f"report  {found.report}")
    typer.echo("try next")
    for purpose, command in next_steps(run.folder / "model", run.folder / "onnx", run.folder / "images"):
        typer.echo(f"  {command}")
        typer.echo(f"      {purpose}")
