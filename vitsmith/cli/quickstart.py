"""`vitsmith quickstart`: every step in minutes."""

from __future__ import annotations

from typing import Annotated

from vitsmith.cli.arguments.options import ForceOption, JsonOption, OutOption, seed_option
from vitsmith.cli.terminal.output import print_json, print_line, print_table
from vitsmith.needs_torch import require_torch


def quickstart(
    out: OutOption = None,
    force: ForceOption = False,
    seed: Annotated[int, seed_option("fresh weights and the order of images")] = 0,
    json: JsonOption = False,
) -> None:
    """Train, evaluate, export, check and predict on real handwriting: offline, in under two minutes."""
    require_torch("all")
    from vitsmith.cli.terminal.quickstart_progress import QuickstartProgress
    from vitsmith.errors import Interrupted
    from vitsmith.escapes import shell_quoted
    from vitsmith.report.quickstart import next_commands
    from vitsmith.report.sections import costs_table
    from vitsmith.training.stop import Stopped
    from vitsmith.verbs.quickstart import quickstart as run

    with QuickstartProgress() as shown:
        try:
            result = run(out, seed=seed, force=force, listener=shown.on_event)
        except (KeyboardInterrupt, Stopped):
            if out is None or not out.exists():
                raise
            again = f"--out {shell_quoted(str(out))}{f' --seed {seed}' if seed else ''} --force"
            raise Interrupted(f"interrupted; start over with  vitsmith quickstart {again}") from None
    if json:
        print_json(result.to_dict())
        return
    table = costs_table(result.costs)
    print_table(table.columns, table.rows, right=table.columns[1:])
    scores = result.evaluation.scores
    low, high = scores.top1_interval
    print_line(
        f"held-out top-1  {scores.top1:.2%} of {scores.num_images} digits (95% interval {low:.2%} to {high:.2%})"
    )
    print_line(f"report          {result.report}")
    print_line()
    print_line("What to try next")
    for one in next_commands(result):
        print_line()
        print_line(f"  {one.purpose}")
        print_line(f"    {one.command}")
