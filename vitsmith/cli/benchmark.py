"""`vitsmith benchmark`: models, engines and precisions side by side on this machine."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import (
    check_recordable,
    choices_of,
    choose_images,
    images_beside,
    labelled,
    open_model,
    read_images,
    readable,
)
from vitsmith.cli.arguments.options import (
    EnginesOption,
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    LabelsFileOption,
    OutOption,
    PrecisionsOption,
    ReadAsOption,
    RecordOption,
    SkipOption,
    data_option,
    images_option,
    split_option,
)
from vitsmith.cli.terminal.output import print_json, print_line, print_table, progress, say
from vitsmith.cli.terminal.pictures import put_picture

if TYPE_CHECKING:
    from vitsmith.benchmark.contenders import Contender, Subject
    from vitsmith.benchmark.rows import Benchmark, BenchmarkRow
    from vitsmith.benchmark.session import AnswerData, BenchmarkSettings
    from vitsmith.data.images.sources import ImageSource
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.weights.bundle.bundle import Bundle

BATCHES = (1, 8)


def benchmark(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS",
            help="Bundles, run folders, weights files, hf:OWNER/NAME or published names, in one table.",
        ),
    ],
    engine: EnginesOption = None,
    precision: PrecisionsOption = None,
    batch_size: Annotated[
        list[int] | None, typer.Option(min=1, help="Images per batch; may be repeated. Default: 1 and 8.")
    ] = None,
    data: Annotated[str, data_option("accuracy is measured on it")] = "",
    split: Annotated[str, split_option("train, val, test or all", "images no model was trained on")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    images: Annotated[list[str] | None, images_option("to compare answers on")] = None,
    skip_unreadable: SkipOption = 0.01,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads; default: all cores.")] = None,
    seconds: Annotated[float, typer.Option(min=0.01, help="Seconds of measurement per row, in five turns.")] = 5.0,
    record: RecordOption = False,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    labels_file: LabelsFileOption = None,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Measure latency, throughput, memory, size, difference and accuracy, in turns, in one run."""
    from vitsmith.benchmark.session import BenchmarkSettings
    from vitsmith.errors import InputError
    from vitsmith.evaluation.timing import Pace
    from vitsmith.report.benchmark import draw_benchmark
    from vitsmith.runs.place import model_name, place_of, write_or_rescue

    if labels_file is not None and not data:
        raise InputError("--labels-file names the classes for --data: give --data too")
    described = labelled(data, image_column, label_column, split)
    with place_of("benchmark", model_name(models[0]), out, force=force) as place:
        sources = images_beside(described, images or [])
        subjects = _load(models, image_size, choices_of(read_as), record)
        if labels_file is not None:
            subjects = _named(subjects, labels_file)
        contenders = _contenders(subjects, engine or [], precision or [])
        answer_data = _answer_data(subjects, sources, described, split, skip_unreadable)
        settings = BenchmarkSettings(tuple(sorted(set(batch_size or BATCHES))), threads, Pace(seconds))
        result = _run(contenders, settings, answer_data)
        write_or_rescue(place, partial(_write, result))
    drawn = put_picture(place / "benchmark.png", "the plot", lambda: draw_benchmark(result))
    _tell(result, subjects, place, drawn=drawn, record=record, json=json)


def _contenders(subjects: list[Subject], engines: list[str], precisions: list[str]) -> list[Contender]:
    """The contenders to measure; tells the user which given model or engine has no row."""
    from vitsmith.benchmark.contenders import contenders_of, require_some, shown_ways

    chosen = [contenders_of(subject, engines, precisions) for subject in subjects]
    contenders = [one for its in chosen for one in its]
    require_some(contenders, subjects, engines, precisions)
    for name in dict.fromkeys(engines):
        if all(one.engine != name for one in contenders):
            ways = shown_ways([name], precisions)
            say(f"no model here runs in {ways}, so it has no row: give a model that was exported for it")
    for name in dict.fromkeys(one.name for one in subjects):
        if all(one.subject.name != name for one in contenders):
            say(f"{name} does not run in {shown_ways(engines, precisions)}, so it has no row")
    return contenders


def _tell(result: Benchmark, subjects: list[Subject], place: Path, *, drawn: bool, record: bool, json: bool) -> None:
    """Prints the rows, also when they cannot be written into the bundles. Raises InputError when there is none."""
    from vitsmith.errors import InputError

    try:
        if record:
            _record(result, subjects)
    finally:
        if json:
            print_json(result.to_dict() | {"folder": str(place)})
        else:
            _print(result)
            say(f"numbers {'and plot ' if drawn else ''}are in {place}")
    if all(row.reason for row in result.rows):
        raise InputError(f"nothing could be measured: {result.rows[0].reason}")


def _load(models: list[str], image_size: str, read_as: dict[str, Any], record: bool) -> list[Subject]:
    """Each model under a name of its own; for a bundle with several programs, each of the programs."""
    from vitsmith.benchmark.contenders import subjects_of
    from vitsmith.errors import InputError
    from vitsmith.runs.place import model_name
    from vitsmith.weights.bundle.paths import find_bundle

    for model in models:
        if record:
            check_recordable(model)
        if models.count(model) > 1:
            raise InputError(f"{model} is given twice: a model needs to be given once")
    usual = read_as.pop("preprocessing", None)
    if read_as and all(find_bundle(model) for model in models):
        raise InputError(f"--read-as {next(iter(read_as))} is for checkpoints, and every model here is a bundle")
    opened = [_opened(model, image_size, read_as) for model in models]
    known = [_with_preprocessing(bundle, usual) for bundle in opened]
    if usual and known == opened:
        raise InputError("--read-as preprocessing is for models whose preprocessing is not known: leave it out")
    names = [model_name(model) for model in models]
    return [
        subject
        for name, model, bundle in zip(names, models, known, strict=True)
        for subject in subjects_of(
            name if names.count(name) == 1 else model, model, bundle, None if find_bundle(model) else read_as
        )
    ]


def _named(subjects: list[Subject], labels_file: Path) -> list[Subject]:
    """The subjects, with class names from the file where they have none. Raises InputError when all have names."""
    from vitsmith.errors import InputError
    from vitsmith.weights.labels import with_labels

    if all(one.bundle.labels is not None for one in subjects):
        raise InputError("every model here names its classes: leave --labels-file out")
    return [
        one if one.bundle.labels is not None else replace(one, bundle=with_labels(one.bundle, labels_file))
        for one in subjects
    ]


def _opened(model: str, image_size: str, read_as: dict[str, Any]) -> Bundle:
    """Opens a model. Its size and how it is read are for checkpoints only: bundles have their own."""
    from vitsmith.weights.bundle.paths import find_bundle

    if find_bundle(model):
        return open_model(model, headless=None)
    return open_model(model, image_size, headless=None, **read_as)


def _with_preprocessing(bundle: Bundle, usual: Any) -> Bundle:
    """The bundle, whose preprocessing is the usual one, if that is asked for and its own is not known."""
    from vitsmith.weights.load import load

    return load(bundle, preprocessing=usual) if usual and bundle.refuses_images else bundle


def _answer_data(
    subjects: list[Subject], images: list[ImageSource], data: DataSpec, split: str, skip: float = 0.01
) -> AnswerData:
    from vitsmith.benchmark.answers import reference_of, require_classes, runs_as_reference
    from vitsmith.benchmark.session import AnswerData
    from vitsmith.engines.sample_inputs import gate_images
    from vitsmith.evaluation.held_out import ask

    evaluation_set = None
    if data.path:
        asked = ask(data, split, tell=say)
        require_classes(subjects, asked.samples)
        evaluation_set = choose_images(list({one.name: one.bundle for one in subjects}.values()), asked)
        evaluation_set = replace(evaluation_set, samples=readable(evaluation_set.samples, skip))
    if images and not any(map(runs_as_reference, subjects)):
        say("--images are not used: no model with torch weights runs here to compare answers with")
    pixels = read_images(images, skip) or gate_images(subjects[0].bundle)
    reference = reference_of(subjects, pixels)
    if evaluation_set is None:
        return AnswerData(reference)
    return AnswerData(reference, evaluation_set.samples, evaluation_set.counted, evaluation_set.counts)


def _run(contenders: list[Contender], settings: BenchmarkSettings, answer_data: AnswerData) -> Benchmark:
    from vitsmith.benchmark.session import run_benchmark, steps_of

    rows, seconds = len(contenders) * len(settings.batches), settings.pace.seconds
    say(f"measuring {rows} rows, {seconds:g} s each, after each program is opened and, where it must be, compiled")
    with progress(unit="steps") as bar:
        task = bar.add_task("measuring", total=steps_of(contenders, settings), note="")

        def step(what: str) -> None:
            bar.update(task, advance=1, note=what)

        return run_benchmark(contenders, settings, answer_data, step)


def _write(result: Benchmark, place: Path) -> None:
    from vitsmith.files.atomic import write_text
    from vitsmith.runs.run import whole_run

    with whole_run(place) as run:
        run.write_json("benchmark.json", result.to_dict())
        write_text(run.folder / "benchmark.csv", result.to_csv())


def _record(result: Benchmark, subjects: list[Subject]) -> None:
    from vitsmith.weights.bundle.folder import record_measurements

    for subject in subjects:
        record_measurements(subject.bundle, result.measurements(subject))


def _print(result: Benchmark) -> None:
    several = len({row.contender.subject.name for row in result.rows}) > 1
    reasons = list(dict.fromkeys(row.reason for row in result.rows if row.reason))
    rows = sorted(result.rows, key=lambda row: (row.batch, -(row.timing.images_per_second if row.timing else 0)))
    filled = [_cells(row, several, reasons) for row in rows]
    columns = [name for name in filled[0] if any(cells[name] for cells in filled)]
    words = ("model", "program", "engine", "precision", "failed")
    right = [name for name in columns if name not in words]
    table = [[cells[name] for name in columns] for cells in filled]
    print_table(columns, table, right=right, keys=columns.index("batch") + 1)
    for number, reason in enumerate(reasons, start=1):
        print_line(f"({number}) {reason}")
    if result.reports:
        _print_reports(result, several)
    for remark in result.remarks:
        say(remark)
    peaks = ", ".join(f"{name} {peak.gflops:.0f} ({peak.how})" for name, peak in result.peaks.items())
    say(f"peak of this machine in GFLOP/s: {peaks}")
    if result.reference:
        say(f"differences are from {result.reference}, on {result.num_images} image{'s' * (result.num_images != 1)}")
    cores = "1 thread" if result.threads == 1 else f"{result.threads} threads"
    say(f"{cores}; inference alone: neither reading nor preprocessing of images")
    say(f"load of this machine in the minute before: {result.load:.1f}")


def _cells(row: BenchmarkRow, several: bool, reasons: list[str]) -> dict[str, Any]:
    """Cells by column; columns that are empty in all rows are not shown. Reasons are long, so they are numbered."""
    values = row.to_dict()

    def shown(name: str, form: str, times: float = 1) -> str:
        return "" if values[name] is None else f"{values[name] * times:{form}}"

    cells = (
        ("model", row.contender.subject.name if several else ""),
        ("program", row.contender.subject.program),
        ("engine", row.contender.engine),
        ("precision", row.contender.precision),
        ("batch", row.batch),
        ("p50 ms", shown("p50_ms", ".4g")),
        ("p95 ms", shown("p95_ms", ".4g")),
        ("calls", shown("calls", "d")),
        ("images/s", shown("images_per_second", ".1f")),
        ("times", shown("times_as_fast", ".2f")),
        ("memory MiB", shown("memory_mib", ".0f")),
        ("size MiB", f"{values['size_mib']:.3g}"),
        ("difference", shown("difference", ".1e")),
        ("agreement", shown("agreement", ".1%")),
        ("top-1", shown("top1", ".2%")),
        ("of peak", shown("share_of_peak", ".0%")),
        ("failed", f"({reasons.index(row.reason) + 1})" if row.reason else ""),
    )
    return dict(cells)


def _print_reports(result: Benchmark, several: bool) -> None:
    """Prints what the engines did with the graphs."""
    programs = any(one.subject.program for one, _ in result.reports)
    rows = [
        (
            *[one.subject.name] * several,
            *[one.subject.program] * programs,
            one.engine,
            one.precision,
            *_reported(report),
        )
        for one, report in result.reports
    ]
    columns = (*["model"] * several, *["program"] * programs, "engine", "precision")
    graph = ("nodes", "FLOPs optimised", "attention", "products", "remarks")
    print_table((*columns, *graph), rows, right=("nodes", "FLOPs optimised"), keys=len(columns))


def _reported(report: dict[str, Any]) -> tuple[str, ...]:
    remarks = "; ".join(report["remarks"])
    if "nodes" not in report:
        return ("", "", "", "", remarks)
    delegated, fused = report["delegated_flops"], report["fused_attentions"]
    return (
        str(report["nodes"]),
        "" if delegated is None else f"{delegated:.0%}",
        f"{fused} of {report['attentions']} fused" if report["attentions"] else "",
        ", ".join(f"{name} {share:.0%}" for name, share in report["precision"].items()),
        remarks,
    )
