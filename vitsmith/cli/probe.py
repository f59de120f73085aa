"""`vitsmith probe`: how good frozen features are on labelled images, and a classifier from them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitsmith.cli.arguments.completion import models
from vitsmith.cli.arguments.inputs import choices_of, labelled, open_model, parse_size
from vitsmith.cli.arguments.options import (
    BatchSizeOption,
    EngineOption,
    ForceOption,
    ImageSizeOption,
    JsonOption,
    OutOption,
    PrecisionOption,
    ReadAsOption,
    SkipOption,
    TemplatesFileOption,
    TemplatesOption,
    seed_option,
)
from vitsmith.cli.arguments.texts import read_labels, read_prompts
from vitsmith.cli.terminal.output import as_remark, print_facts, print_json, print_line, print_table, progress, say
from vitsmith.needs_torch import require_torch
from vitsmith.probing.shots import SHOTS

if TYPE_CHECKING:
    from vitsmith.probing.classifiers.steps import OnStep
    from vitsmith.probing.result import ModelProbe, Probed


class FeatureKind(StrEnum):
    """What of a model is probed."""

    auto = "auto"
    pooled = "pooled"
    class_and_mean = "class_and_mean"


def probe(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="Labelled data set: a folder of class folders, .csv, .jsonl, tar shards, hf:OWNER/NAME or 'digits'.",
        ),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            help="Bundle, run, weights file, hf:OWNER/NAME or published name; may be repeated.", autocompletion=models
        ),
    ],
    split: Annotated[
        str, typer.Option(help="Part of DATA to score on: val or test; default: the held-out images.")
    ] = "",
    image_column: Annotated[
        str, typer.Option(help="Column of DATA with images or their paths; default: the one with a usual name.")
    ] = "",
    label_column: Annotated[
        str, typer.Option(help="Column of DATA with labels; default: the one with a usual name.")
    ] = "",
    features: Annotated[
        FeatureKind,
        typer.Option(help="Input of the classifier; auto: pooled, for DINO both, as cross-validation chooses."),
    ] = FeatureKind.auto,
    shots: Annotated[
        str, typer.Option(help="Training images of a class whose mean stands for it, as 1,4,16, or none.")
    ] = ",".join(map(str, SHOTS)),
    templates: TemplatesOption = "",
    templates_file: TemplatesFileOption = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(help="Zero-shot: labels separated by commas, each class among them; default: the class names."),
    ] = None,
    labels_file: Annotated[
        Path | None, typer.Option(help="Zero-shot: file with a class name a line and, behind a tab, words for it.")
    ] = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: BatchSizeOption = 32,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    skip_unreadable: SkipOption = 0.01,
    seed: Annotated[int, seed_option("the split, the folds and the shots")] = 0,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Neither take features from the cache nor keep them there.")
    ] = False,
    no_bundle: Annotated[bool, typer.Option("--no-bundle", help="Only score: write no model.")] = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Score frozen features by k-NN, ridge, a linear probe and few shots; write the best model as a classifier."""
    require_torch()
    from vitsmith.errors import InputError
    from vitsmith.probing.one_model import NamedModel
    from vitsmith.runs.place import model_name
    from vitsmith.verbs.probe import probe_settings, run_probe

    settings = probe_settings(
        features=features.value,
        shots=_counts(shots),
        words=read_labels(labels, labels_file),
        templates=read_prompts(templates, templates_file),
        seed=seed,
        engine=engine,
        precision=precision,
        batch_size=batch_size,
        skip_unreadable=skip_unreadable,
        cache=not no_cache,
        bundle=not no_bundle,
    )
    parse_size(image_size)
    choices_of(read_as)  # mistakes are told before any model is read
    candidates = [
        NamedModel(one, partial(open_model, one, image_size, read_as, headless=None), model_name(one)) for one in model
    ]
    described = labelled(data, image_column, label_column)
    result = run_probe(described, candidates, settings, split=split, out=out, force=force, tell=say, watch=_watching)
    if json:
        print_json(result.to_dict() | {"folder": str(result.folder)})
    else:
        _show(result)
    result.require()
    if result.failed:
        raise InputError(f"{len(result.failed)} of {len(model)} models could not be probed: each says why")


def _counts(text: str) -> list[int]:
    """The numbers of `--shots`. Raises InputError."""
    from vitsmith.errors import InputError, shown

    if text.strip() == "none":
        return []
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--shots {shown(text)}: give whole numbers separated by commas, as 1,4,16, or none") from None


@contextmanager
def _watching(doing: str, steps: int, unit: str) -> Iterator[OnStep]:
    with progress(unit=unit) as bar:
        task = bar.add_task(doing, total=steps or None, note="")

        def on_step(steps: int = 1, note: str = "") -> None:
            bar.update(task, advance=steps, note=note)

        yield on_step


def _show(result: Probed) -> None:
    from vitsmith.errors import about

    columns, rows = result.table()
    print_table(columns, rows, right=columns[2:])
    for one in result.models:
        _show_shots(one)
    for failed in result.failed:
        print_line(as_remark(f"not probed: {about(failed.name, failed.reason)}"))
    best = result.best
    print_facts(
        [
            ("held-out images", f"{result.held_out_images:,} of {result.data}, {len(result.classes)} classes"),
            ("training images", f"{result.train_images:,}"),
            ("best", f"{best.name}, {result.chosen}" if len(result.models) > 1 else None),
            ("logistic probe", f"{best.features}, {best.choice}"),
            ("worst classes", _worst(result) or None),
            ("time", "; ".join(_times(one) for one in result.models)),
            ("bundle", result.bundle and result.bundle.folder),
            ("no bundle", result.no_bundle),
            ("run", result.folder),
        ]
    )
    for remark in best.remarks:
        say(f"{best.name}: {remark}")


def _show_shots(model: ModelProbe) -> None:
    from vitsmith.probing.result import share_told

    if model.shots:
        told = ", ".join(f"{row.shots}: {share_told(row.accuracy, row.interval)}" for row in model.shots)
        print_line(f"{model.name}, prototypes of so many images a class: {told}")


def _times(model: ModelProbe) -> str:
    return f"{model.name} {model.seconds:.1f} s for features, {model.fitting_seconds:.1f} s for the rest"


def _worst(result: Probed) -> str:
    from vitsmith.probing.result import worst_classes

    return ", ".join(f"{name} {share:.0%}" for name, share in worst_classes(result, 3))
