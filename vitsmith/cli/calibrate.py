"""`vitsmith calibrate`: how fast this machine is, for predictions of what models cost on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.arguments.completion import engines, precisions
from vitsmith.cli.arguments.options import JsonOption
from vitsmith.cli.terminal.output import print_json, print_line, print_table, progress, say

if TYPE_CHECKING:
    from vitsmith.cost.profile import Profile


def calibrate(
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Engine; may be repeated. Default: all that are installed.", autocompletion=engines),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="Precision; may be repeated. Default: all that this processor is fast in.", autocompletion=precisions
        ),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; default: all cores.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the profile here too, for another machine to read.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure also what was measured before.")] = False,
    json: JsonOption = False,
) -> None:
    """Measure this machine, so that the cost of any model on it can be predicted."""
    from vitsmith.cost.calibrate import Progress, ways
    from vitsmith.cost.calibrate import calibrate as measure
    from vitsmith.cost.profile import profile_fields

    count = len(ways(engine or (), precision or (), threads))
    with progress(unit="%") as bar:
        task = bar.add_task("calibrating", total=100 * count, note="")
        done: dict[str, float] = {}

        def follow(step: Progress) -> None:
            done[str(step.way)] = step.done
            bar.update(task, description=str(step.way), completed=round(100 * sum(done.values())))

        found = measure(
            engine or (), precisions=precision or (), threads=threads, out=out, again=again, on_progress=follow
        )
    for one in found.engines:
        for remark in one.remarks:
            say(f"{one.engine} {one.precision}: {remark}")
    if json:
        print_json(profile_fields(found))
    else:
        _print(found, out)


def _print(found: Profile, out: Path | None) -> None:
    columns = ("engine", "precision", "threads", "version", "made", "models timed", "unsteady", "others")
    print_table(
        columns,
        [
            (
                one.engine, one.precision, str(one.threads), one.version, one.made, str(len(one.timed)),
                f"{one.spread:.1%}", f"{one.others:.0%}",
            )
            for one in found.engines
        ],
        right=("threads", "models timed", "unsteady", "others"),
    )  # fmt: skip
    print_line(f"{found.machine}. Unsteady: deviation of the time of one model that was timed again and again.")
    print_line("Others: share of the cores that other processes used meanwhile.")
    if out is not None:
        print_line(f"Profile: {out}  For another machine:  vitsmith recommend --machine {out}")
    print_line("What a model costs here:  vitsmith models ViT-B_16 --cost")
