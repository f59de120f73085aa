"""`vitsmith evaluate`: how good a model is on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.checkpoint import ImageSizeOption, open_model
from vitsmith.cli.engine import EngineOption, PrecisionOption, tell_choice
from vitsmith.cli.images import SkipOption, tell_unreadable
from vitsmith.cli.output import JsonOption, print_facts, print_json, print_table, progress, say
from vitsmith.cli.zeroshot import TemplatesOption, VocabularyOption, open_classifier

if TYPE_CHECKING:
    from vitsmith.data.samples import Samples
    from vitsmith.evaluate.evaluation import Evaluation

WORST_CLASSES = 10


def evaluate(
    model: Annotated[str, typer.Argument(help="A bundle, weights or a published name.")],
    data: Annotated[
        str,
        typer.Option(
            help="A folder of class folders (or with val/ or test/ inside), .csv, .jsonl, shards or 'digits'."
        ),
    ],
    split: Annotated[
        str, typer.Option(help="train, val or test; default: the held-out part if there is one, else all.")
    ] = "",
    zeroshot: Annotated[
        bool, typer.Option("--zeroshot", help="Classify with words: the data's class names, or those of --labels.")
    ] = False,
    templates: TemplatesOption = "",
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="The data are captioned images: recall of each from the other.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images computed at once.")] = 32,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    labels: Annotated[
        Path | None, typer.Option(help="Names of the classes, one a line; with --zeroshot words may follow a tab.")
    ] = None,
    vocabulary: VocabularyOption = None,
    image_size: ImageSizeOption = "",
    skip_unreadable: SkipOption = 0.01,
    record: Annotated[bool, typer.Option("--record", help="Write the scores into the bundle.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for scores and plots; default runs/evaluate/<name>.")] = None,
    json: JsonOption = False,
) -> None:
    """Top-1 with its confidence interval, top-5, accuracy of each class and calibration; or recall of pairs."""
    from vitsmith.errors import InputError
    from vitsmith.weights.bundle_folder import is_bundle

    if retrieval and (zeroshot or templates or labels):
        raise InputError("--retrieval compares images with captions: leave --zeroshot, --templates and --labels away")
    if templates and not zeroshot:
        raise InputError("--templates are for --zeroshot")
    if record and not is_bundle(model):
        raise InputError(f"--record writes scores into a bundle, and {model} is none on disk: save it as one first")
    options = {"engine": engine, "batch_size": batch, "precision": precision}
    opening = {"image_size": image_size, "vocabulary": vocabulary}
    if retrieval:
        _evaluate_retrieval(
            model, data, split, opening, options, skip_unreadable=skip_unreadable, record=record, out=out, json=json
        )
        return

    from vitsmith.data.datasets import open_labelled
    from vitsmith.evaluate.evaluation import evaluate as run
    from vitsmith.runs import Run, model_name
    from vitsmith.weights.bundle_folder import record_measurements

    samples, name = open_labelled(data, split, tell=say)
    how: dict[str, Any] = {}
    if zeroshot:
        classifier, how = _zeroshot(model, samples, templates, labels, opening, options)
        bundle, opened = classifier.encoder.bundle, classifier.encoder.engine
        name += f", zero-shot with {templates}" if templates else ", zero-shot"
    else:
        classifier = _predictor(model, labels, opening, options)
        bundle, opened = classifier.bundle, classifier.engine
    tell_choice(opened)
    with progress(unit="images") as bar:
        task = bar.add_task("evaluating", total=len(samples), note="")
        evaluation = run(
            classifier,
            samples,
            skip_unreadable=skip_unreadable,
            on_image=lambda: bar.advance(task),
            tell=tell_unreadable,
        )
    with Run("evaluate", model_name(model), out) as folder:
        scores = {"model": bundle.where, "data": name, "engine": opened.name, "precision": opened.precision, **how}
        if classifier.head != "softmax":
            scores["head"] = classifier.head
        scores |= {"seconds": evaluation.seconds, "classes": list(evaluation.classes), **evaluation.scores.to_dict()}
        scores["left_out"] = list(evaluation.left_out)
        folder.write_json("scores.json", scores)
        if record:
            measured = name if precision in ("auto", "fp32") else f"{name}, {precision}"
            record_measurements(bundle, evaluation.measurements(measured, opened.name))
    if json:
        print_json(scores)
    else:
        print_evaluation(evaluation)
        say(f"scores written to {folder.folder}")


def _predictor(model: str, labels: Path | None, opening: dict[str, Any], options: dict[str, Any]) -> Any:
    from vitsmith.predict import Predictor

    return Predictor(open_model(model, labels=labels, **opening), **options)


def _zeroshot(
    model: str,
    samples: Samples,
    templates: str,
    labels: Path | None,
    opening: dict[str, Any],
    options: dict[str, Any],
) -> tuple[Any, dict[str, Any]]:
    """The classifier, and what a score needs to say of it. Without labels the classes are the data's own."""
    from vitsmith.zeroshot.words import read_word_file, words_of

    words = read_word_file(str(labels)) if labels is not None else words_of(samples.classes)
    classifier = open_classifier(open_model(model, **opening), words, templates, options=options)
    return classifier, {"templates": list(classifier.templates), "cut": list(classifier.cut)}


def _evaluate_retrieval(
    model: str,
    data: str,
    split: str,
    opening: dict[str, Any],
    options: dict[str, Any],
    *,
    skip_unreadable: float,
    record: bool,
    out: Path | None,
    json: bool,
) -> None:
    from vitsmith.data.pairs import open_caption_samples
    from vitsmith.encode import Encoder
    from vitsmith.evaluate.retrieval import evaluate_retrieval
    from vitsmith.runs import Run, model_name
    from vitsmith.weights.bundle_folder import record_measurements

    samples, name = open_caption_samples(data, split, tell=say)
    encoder = Encoder(open_model(model, **opening), **options)
    tell_choice(encoder.engine)
    with progress(unit="images") as bar:
        task = bar.add_task("embedding", total=len(samples), note="")
        evaluation = evaluate_retrieval(
            encoder, samples, skip_unreadable=skip_unreadable, on_image=lambda: bar.advance(task), tell=tell_unreadable
        )
    with Run("evaluate", model_name(model), out) as folder:
        scores = {"model": encoder.bundle.where, "data": name, "engine": encoder.engine.name}
        scores |= {"precision": encoder.engine.precision, **evaluation.to_dict()}
        folder.write_json("scores.json", scores)
        if record:
            asked = options["precision"]
            measured = name if asked in ("auto", "fp32") else f"{name}, {asked}"
            record_measurements(encoder.bundle, evaluation.measurements(measured))
    if json:
        print_json(scores)
        return
    print_table(
        ("recall", "queries", "at 1", "at 5", "at 10"), evaluation.rows(), right=("queries", "at 1", "at 5", "at 10")
    )
    if evaluation.unknown:
        say(
            f"{evaluation.unknown:,} captions have no word that the model's vocabulary knows: it cannot tell them apart"
        )
    say(f"scores written to {folder.folder}")


def print_evaluation(evaluation: Evaluation) -> None:
    """The scores, and the classes that fare worst."""
    scores = evaluation.scores
    low, high = scores.top1_interval
    print_facts(
        [
            ("images", scores.images),
            ("left out", f"{len(evaluation.left_out)} that could not be read" if evaluation.left_out else None),
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
