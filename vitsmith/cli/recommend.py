"""`vitsmith recommend`: which model, at what size, on which engine, for a machine and a budget."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.arguments.completion import scenarios
from vitsmith.cli.arguments.options import ForceOption, JsonOption, OutOption, seed_option
from vitsmith.cli.terminal.output import print_json, print_line, print_table, progress, say

if TYPE_CHECKING:
    from vitsmith.choosing.request import Request
    from vitsmith.choosing.result import Recommendations
    from vitsmith.probing.classifiers.steps import OnStep
    from vitsmith.verbs.own_measurements import OwnMeasurements


def recommend(
    scenario: Annotated[
        str,
        typer.Option(
            help="edge, mobile, cpu-server, gpu-server, browser, multimodal, or a .toml file of one; default: "
            "cpu-server, or only the budgets that are given.",
            autocompletion=scenarios,
        ),
    ] = "",
    task: Annotated[str, typer.Option(help="classify, zeroshot or embed; default: the scenario's.")] = "",
    latency: Annotated[
        str, typer.Option(help="Longest time of one image from bytes to answer, 95th percentile, as 30ms.")
    ] = "",
    throughput: Annotated[float | None, typer.Option(help="Least images per second, in calls of --batch.")] = None,
    memory: Annotated[str, typer.Option(help="Largest peak memory, as 500MB or 500MiB.")] = "",
    size: Annotated[str, typer.Option(help="Largest size on disk, as 50MB or 50MiB.")] = "",
    batch: Annotated[int | None, typer.Option(help="Images in a call; default: the scenario's.")] = None,
    threads: Annotated[int | None, typer.Option(help="Processor threads; default: the scenario's, or all.")] = None,
    licence: Annotated[str, typer.Option(help="commercial: only licences that allow commercial use.")] = "",
    machine: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Profile of another machine, from vitsmith calibrate --out.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="Labelled images whose accuracy ranks: class folders, table, shards or hf:OWNER/NAME.")
    ] = "",
    download: Annotated[bool, typer.Option("--download", help="Fetch weights to score on --data.")] = False,
    measure: Annotated[int, typer.Option(min=0, help="How many of the best rows to build and measure here.")] = 0,
    device_memory: Annotated[
        str, typer.Option(help="Memory of a device, as 8GB: the largest batch, and how training fits.")
    ] = "",
    train_images: Annotated[
        int, typer.Option(min=0, help="Images to train on in all, whose time --device-memory tells with --machine.")
    ] = 0,
    seed: Annotated[int, seed_option("the images of --data and their folds")] = 0,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Rank published models by accuracy within budgets, for this machine or another; nothing is downloaded."""
    from vitsmith.choosing.request import RequestOptions, make_request
    from vitsmith.runs.place import place_of
    from vitsmith.verbs.own_measurements import own_measurements
    from vitsmith.verbs.recommend import written

    options = RequestOptions(
        scenario=scenario,
        task=task,
        latency=latency,
        throughput=throughput,
        memory=memory,
        size=size,
        batch=batch,
        threads=threads,
        licence=licence,
        machine=machine is not None,
    )
    request = make_request(options)
    own = own_measurements(
        data,
        download=download,
        measure=measure,
        device_memory=device_memory,
        train_images=train_images,
        seed=seed,
    )
    with place_of("recommend", request.scenario.name, out, force=force) as place:
        found = written(_run(request, machine, own), place)
    for remark in found.remarks:
        say(remark)
    if json:
        print_json(found.to_dict() | {"folder": str(found.folder)})
    else:
        _show(found)
    found.require()


def _run(request: Request, machine: Path | None, own: OwnMeasurements) -> Recommendations:
    """Ranks, under a bar while this machine is calibrated."""
    from vitsmith.verbs.recommend import run_recommend

    with progress(unit="%") as bar:
        tasks = {}

        def follow(step: object) -> None:
            name = str(step.way)  # type: ignore[attr-defined]
            if name not in tasks:
                say(f"{name} is not calibrated here: measuring, 20 seconds at most")
                tasks[name] = bar.add_task(f"calibrating {name}", total=100, note="")
            bar.update(tasks[name], completed=round(100 * step.done))  # type: ignore[attr-defined]

        @contextmanager
        def watch(doing: str, steps: int, unit: str) -> Iterator[OnStep]:
            task = bar.add_task(doing, total=steps or None, note=unit)
            yield lambda steps=1, note="": bar.update(task, advance=steps)
            bar.remove_task(task)

        own = replace(own, options={"watch": watch})
        return run_recommend(request, machine, own, tell=say, on_progress=follow)


def _show(found: Recommendations) -> None:
    from vitsmith.choosing.words import LEGEND, NUMBERS

    if found:
        columns, rows = found.table()
        print_table(columns, rows, right=NUMBERS)
        say(LEGEND)
    for sentence in found.sentences():
        print_line(sentence)
    for fit in found.fits:
        for line in fit.lines():
            print_line(line)
    for step in found.steps:
        print_line(f"{step.purpose}  {step.command}")
    say(f"page and numbers are in {found.folder}")
