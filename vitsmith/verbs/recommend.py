"""`vitsmith.recommend`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vitsmith.arguments import Tell, flag, named_arguments, warn
from vitsmith.arguments import path as argument_path
from vitsmith.choosing.catalogue import catalogue
from vitsmith.choosing.machines import OnProgress, machine_of
from vitsmith.choosing.request import Request, RequestOptions, make_request
from vitsmith.choosing.result import Recommendations
from vitsmith.choosing.run import recommend as ranked
from vitsmith.data.sets.datasets import DataSpec
from vitsmith.files.atomic import optional
from vitsmith.runs.place import place_of, write_or_rescue
from vitsmith.verbs.own_measurements import NOTHING_ASKED, Location, OwnMeasurements, own_measurements

if TYPE_CHECKING:
    from vitsmith.cost.predict import Machine


@named_arguments
def recommend(
    *,
    scenario: str = "",
    task: str = "",
    latency: str = "",
    throughput: float | None = None,
    memory: str = "",
    size: str = "",
    batch: int | None = None,
    threads: int | None = None,
    licence: str = "",
    machine: Machine | None = None,
    data: Location | DataSpec = "",
    download: bool = False,
    measure: int = 0,
    device_memory: str = "",
    train_images: int = 0,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    force: bool = False,
    tell: Tell = warn,
) -> Recommendations:
    """Which published checkpoint, on which engine and in which precision, keeps the budgets; the best first.

    This machine is calibrated first, in 20 seconds an engine and precision, where `vitsmith calibrate` did not do it.

    Args:
        scenario: 'edge', 'mobile', 'cpu-server', 'gpu-server', 'browser', 'multimodal', or a .toml file of one; its
            budgets count where none is given here. Without scenario and budgets it is 'cpu-server'.
        task: 'classify', 'zeroshot' or 'embed'; default: the scenario's.
        latency: most time for one image, from bytes to answer, in 95 of 100 cases: '30ms'.
        throughput: least images a second, in calls of `batch` images.
        memory: most memory of the process: '500MB'. `size`: most bytes on disk: '50MB'.
        batch: images in a call; default: the scenario's. `threads`: processor threads; default: all.
        licence: 'commercial' for checkpoints whose licence allows commercial use.
        machine: a profile of another machine, or its file, as `vitsmith calibrate --out` writes it.
        data: labelled images, as for `train`: k-NN and ridge on at most 1,000 of them rank in place of published
            accuracy, for checkpoints whose weights are here; `download` fetches others.
        measure: how many of the best rows are built and measured, which corrects the ranking.
        device_memory: '8GB': the largest batch there, and how `train` would cut a batch; with `train_images`, those to
            learn from in all, and the `machine`'s profile also the time.
        seed: decides which images are taken, and the folds.
        out: a folder for the table and a page; default: nothing is written.
        force: replace an earlier recommendation at `out`.
        tell: called with messages; by default only warnings are shown.

    Raises InputError with every mistake at once, UnknownNameError, MissingPackageError without an engine, OutputError.
    """
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
        data, download=download, measure=measure, device_memory=device_memory, train_images=train_images, seed=seed
    )
    if out is None:
        return run_recommend(request, machine, own, tell=tell)
    with place_of("recommend", "", argument_path(out, "out"), force=flag(force, "force")) as place:
        return written(run_recommend(request, machine, own, tell=tell), place)


def run_recommend(
    request: Request,
    machine: Machine | None = None,
    own: OwnMeasurements = NOTHING_ASKED,
    *,
    tell: Tell,
    on_progress: OnProgress = lambda _: None,
) -> Recommendations:
    """The recommendations of a request: for `recommend` and the command line."""
    own.check(request, machine)
    known = machine_of(request, machine, tell=tell, on_progress=on_progress)
    stages = own.stages(request, tell)
    return own.added_to(ranked(request, catalogue(), known, stages), stages, machine)


def written(found: Recommendations, place: Path) -> Recommendations:
    """Writes recommend.json and the page into a folder that was reserved. Raises OutputError."""
    from vitsmith.runs.run import whole_run

    def write(target: Path) -> None:
        with whole_run(target) as run:
            run.write_json("recommend.json", found.to_dict(len(found)))

    write_or_rescue(place, write)
    with optional("the page"):
        from vitsmith.report.recommend import write_report

        write_report(found, place)
    return replace(found, folder=place)
