"""`vitsmith evaluate`: how good a model is on labelled images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitsmith.cli.arguments.inputs import (
    check_recordable,
    choose_images,
    labelled,
    open_model,
    tell_choice,
    tell_unreadable,
)
from vitsmith.cli.arguments.options import (
    BatchSizeOption,
    EngineOption,
    ForceOption,
    ImageColumnOption,
    ImageSizeOption,
    JsonOption,
    LabelColumnOption,
    LabelsFileOption,
    LabelsOption,
    ModelArgument,
    OutOption,
    PrecisionOption,
    ReadAsOption,
    RecordOption,
    SkipOption,
    TemplatesFileOption,
    TemplatesOption,
    VocabularyOption,
    split_option,
)
from vitsmith.cli.arguments.texts import Names, class_names, open_classifier, read_prompts, tell_unknown
from vitsmith.cli.terminal.output import print_facts, print_json, print_table, progress, say

if TYPE_CHECKING:
    from vitsmith.data.sets.datasets import DataSpec
    from vitsmith.data.sets.samples import Samples
    from vitsmith.engines.protocol import Engine
    from vitsmith.evaluation.evaluation import Evaluation
    from vitsmith.records import Measurement
    from vitsmith.weights.bundle.bundle import Bundle
    from vitsmith.zeroshot.labels import Words

WORST_CLASSES = 10


def evaluate(
    model: ModelArgument,
    data: Annotated[
        str,
        typer.Option(
            help="Labelled data set: a folder of class folders (or with val/ or test/ inside), .csv, .jsonl, "
            "tar shards, hf:OWNER/NAME or 'digits'."
        ),
    ],
    split: Annotated[str, split_option("train, val, test or all", "images the model was not trained on")] = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    zeroshot: Annotated[
        bool, typer.Option("--zeroshot", help="Classify by text, with the class names of the data or those given.")
    ] = False,
    templates: TemplatesOption = "",
    templates_file: TemplatesFileOption = None,
    retrieval: Annotated[
        bool, typer.Option("--retrieval", help="The data are images with captions: measure recall in both directions.")
    ] = False,
    batch_size: BatchSizeOption = 32,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    vocabulary: VocabularyOption = None,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    skip_unreadable: SkipOption = 0.01,
    record: RecordOption = False,
    out: OutOption = None,
    force: ForceOption = False,
    json: JsonOption = False,
) -> None:
    """Measure accuracy (top-1 with its interval, top-5, per class) and calibration, or recall of image-text pairs."""
    from vitsmith.errors import InputError
    from vitsmith.runs.place import model_name, place_of, write_or_rescue

    prompts = read_prompts(templates, templates_file)
    if retrieval and (zeroshot or prompts or labels or labels_file):
        raise InputError("--retrieval compares images with captions: leave --zeroshot, templates and labels out")
    if prompts and not zeroshot:
        raise InputError("templates are for --zeroshot: give that too, or leave them out")
    if record:
        check_recordable(model)
    request = _Request(
        model=model,
        labels=class_names(labels, labels_file),
        data=labelled(data, image_column, label_column),
        split=split,
        zeroshot=_Prompts(templates or str(templates_file or ""), prompts) if zeroshot else None,
        opening={"image_size": image_size, "read_as": read_as, "vocabulary": vocabulary},
        options={"engine": engine, "batch_size": batch_size, "precision": precision},
        skip=skip_unreadable,
    )
    with place_of("evaluate", model_name(model), out, force=force) as place:
        scored = _recall(request) if retrieval else _accuracy(request)
        write_or_rescue(place, partial(_write, scored.scores))
    _tell(scored, place, record=record, json=json)


def _tell(scored: _Scored, place: Path, *, record: bool, json: bool) -> None:
    """Prints the scores, also when they cannot be written into the bundle."""
    from vitsmith.weights.bundle.folder import record_measurements

    try:
        if record:
            record_measurements(scored.bundle, scored.measurements)
    finally:
        if json:
            print_json(scored.scores)
        else:
            scored.show()
            say(f"scores written to {place}")


@dataclass(frozen=True)
class _Prompts:
    """The name of the templates and the templates themselves; '' and None for the model's own."""

    name: str
    templates: Sequence[str] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    """What is evaluated, and on which data."""

    model: str
    labels: Names | None
    data: DataSpec
    split: str
    zeroshot: _Prompts | None
    opening: dict[str, Any]
    """Options of `open_model`."""
    options: dict[str, Any]
    """Options of `Predictor` and `Encoder`."""
    skip: float
    """Share of images that may be unreadable."""


@dataclass(frozen=True, eq=False)
class _Scored:
    """The results: scores for scores.json, measurements for the bundle, and how to show them."""

    bundle: Bundle
    scores: dict[str, Any]
    measurements: Sequence[Measurement]
    show: Callable[[], None]


def _write(scores: dict[str, Any], place: Path) -> None:
    from vitsmith.runs.run import whole_run

    with whole_run(place) as run:
        run.write_json("scores.json", scores)


def _accuracy(request: _Request) -> _Scored:
    """Scores a classifier, or, with `zeroshot`, classification by text."""
    from vitsmith.engines.protocol import precision_of
    from vitsmith.evaluation.held_out import ask
    from vitsmith.verbs.evaluate import evaluate_on

    zeroshot = request.zeroshot
    asked = ask(request.data, request.split, tell=say)
    classifier, bundle, opened, how = _open(request, asked.samples)
    evaluation, chosen = evaluate_on(
        classifier,
        asked,
        choose_images,
        say,
        skip_unreadable=request.skip,
        watch=partial(_watching, "evaluating", opened),
    )
    named = f" with {zeroshot.name}" if zeroshot is not None and zeroshot.name else ""
    name = chosen.counted + (f", zero-shot{named}" if zeroshot is not None else "")
    scores = {"model": bundle.where, "data": name, "engine": opened.name, "precision": opened.precision, **how}
    scores["split"] = chosen.counts
    if classifier.head != "softmax":
        scores["head"] = classifier.head
    scores |= {"seconds": evaluation.seconds, "classes": list(evaluation.classes), **evaluation.scores.to_dict()}
    scores["left_out"] = list(evaluation.left_out)
    on = chosen.counted + (f", templates {zeroshot.name}" if named and zeroshot is not None else "")
    measurements = evaluation.measurements(on, opened.name, precision_of(opened), zero_shot=zeroshot is not None)
    return _Scored(bundle, scores, measurements, partial(print_evaluation, evaluation))


def _open(request: _Request, samples: Samples) -> tuple[Any, Bundle, Engine, dict[str, Any]]:
    """The classifier, its bundle and engine, and facts about it for scores.json."""
    from vitsmith.predict import Predictor

    options = request.options | {"num_images": len(samples)}
    if request.zeroshot is None:
        predictor = Predictor(open_model(request.model, labels=request.labels, **request.opening), **options)
        return predictor, predictor.bundle, predictor.engine, {}
    words = _words(request.labels, samples)
    bundle = open_model(request.model, headless=True, **request.opening)
    classifier = open_classifier(bundle, words, request.zeroshot.templates, options=options)
    how = {"templates": list(classifier.templates), "cut": list(classifier.cut)}
    return classifier, classifier.encoder.bundle, classifier.encoder.engine, how


def _words(labels: Names | None, samples: Samples) -> Words:
    """The classes of a zero-shot classifier: the labels that were given, or the data's own."""
    from vitsmith.zeroshot.labels import check_words, read_word_file, words_of

    if labels is None:
        return words_of(samples.classes)
    return read_word_file(str(labels)) if isinstance(labels, Path) else check_words(labels, where="--labels")


@contextmanager
def _watching(doing: str, engine: Engine, total: int) -> Iterator[Callable[[], None]]:
    """Tells which engine runs, and shows a bar of the images."""
    tell_choice(engine)
    with progress(unit="images") as bar:
        task = bar.add_task(doing, total=total, note="")
        yield lambda: bar.advance(task)


def _recall(request: _Request) -> _Scored:
    """Scores the retrieval of captions by images, and of images by captions."""
    from vitsmith.data.sets.pairs import PairSpec
    from vitsmith.encode import Encoder
    from vitsmith.engines.protocol import precision_of
    from vitsmith.evaluation.held_out import ask_pairs
    from vitsmith.evaluation.retrieval import evaluate_retrieval

    data = request.data
    pairs = PairSpec(path=data.path, image_column=data.image_column, caption_column=data.label_column)
    asked = ask_pairs(pairs, request.split, tell=say)
    bundle = open_model(request.model, headless=True, **request.opening)
    encoder = Encoder(bundle, **request.options, num_images=len(asked.samples))
    chosen = choose_images([encoder.bundle], asked)
    if encoder.reads_text:  # else it is refused next
        tell_unknown(encoder, chosen.samples.classes)
    with _watching("embedding", encoder.engine, len(chosen.samples)) as on_image:
        evaluation = evaluate_retrieval(
            encoder, chosen.samples, skip_unreadable=request.skip, on_image=on_image, tell=tell_unreadable
        )
    scores: dict[str, Any] = {"model": encoder.bundle.where, "data": chosen.counted, "engine": encoder.engine.name}
    scores |= {"precision": encoder.engine.precision, "split": chosen.counts, **evaluation.to_dict()}

    def show() -> None:
        shown = ("at 1", "at 5", "at 10")
        print_table(("recall", "queries", *shown), evaluation.rows(), right=("queries", *shown))
        if evaluation.unknown:
            say(
                f"{evaluation.unknown:,} captions have no word that the model's vocabulary knows: it cannot tell them "
                "apart"
            )

    measurements = evaluation.measurements(chosen.counted, encoder.engine.name, precision_of(encoder.engine))
    return _Scored(encoder.bundle, scores, measurements, show)


def print_evaluation(evaluation: Evaluation) -> None:
    """Prints the scores, and the classes with the lowest accuracy."""
    scores = evaluation.scores
    low, high = scores.top1_interval
    print_facts(
        [
            ("images", scores.num_images),
            ("left out", f"{len(evaluation.left_out)} that could not be read" if evaluation.left_out else None),
            ("top-1", f"{scores.top1:.2%}  (95% interval {low:.2%} to {high:.2%})"),
            ("top-5", f"{scores.top5:.2%}" if len(evaluation.classes) > 5 else None),
            ("mean of classes", f"{scores.macro_recall:.2%}"),
            ("calibration error", f"{scores.calibration_error:.2%}"),
            ("cross-entropy", f"{scores.nll:.4f}"),
            ("speed", f"{scores.num_images / evaluation.seconds:.1f} images/s, reading included"),
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
