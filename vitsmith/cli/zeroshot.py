"""`vitsmith zeroshot`: which of your own words fits an image."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vitsmith.cli.arguments.inputs import images_of, labelled, open_model, tell_choice
from vitsmith.cli.arguments.options import (
    BatchSizeOption,
    CsvOption,
    DataInsteadOption,
    EngineOption,
    ImageColumnOption,
    ImagesArgument,
    ImageSizeOption,
    JsonLinesOption,
    LabelColumnOption,
    PartOption,
    PrecisionOption,
    ReadAsOption,
    SkipAllOption,
    TemplatesFileOption,
    TemplatesOption,
    TopOption,
    VocabularyOption,
    model_argument,
)
from vitsmith.cli.arguments.texts import open_classifier, read_labels, read_prompts
from vitsmith.cli.terminal.answers import Writer, renamed, style_of, write_all
from vitsmith.cli.terminal.output import say


class Scoring(StrEnum):
    """How labels are scored."""

    single = "single"
    independent = "independent"


def zeroshot(
    model: Annotated[str, model_argument("CLIP, SigLIP or LiT")],
    images: ImagesArgument = None,
    data: DataInsteadOption = "",
    split: PartOption = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    labels: Annotated[
        list[str] | None, typer.Option(help="Labels to choose from, separated by commas; may be repeated.")
    ] = None,
    labels_file: Annotated[
        Path | None,
        typer.Option(
            help="File with one label a line, in place of --labels; words for the prompts may follow after a tab."
        ),
    ] = None,
    templates: TemplatesOption = "",
    templates_file: TemplatesFileOption = None,
    scores: Annotated[
        Scoring, typer.Option(help="single: exactly one label fits; independent: each label is scored by itself.")
    ] = Scoring.single,
    top: TopOption = 1,
    json: JsonLinesOption = False,
    csv: CsvOption = False,
    batch_size: BatchSizeOption = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    vocabulary: VocabularyOption = None,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    cache: Annotated[bool, typer.Option(help="Keep the embeddings of labels on disk for the next run.")] = True,
    skip_unreadable: SkipAllOption = None,
) -> None:
    """Classify images by text labels. Unreadable images are reported and skipped, and the exit code is then 2."""
    from vitsmith.errors import InputError

    style = style_of(json=json, csv=csv)
    words = read_labels(labels, labels_file)
    if words is None:
        raise InputError("no labels are given: write  --labels 'cat, dog' , or --labels-file FILE with one a line")
    prompts = read_prompts(templates, templates_file)
    described = labelled(data, image_column, label_column, split)
    sources, names = images_of(images or [], described, split)
    options = {"engine": engine, "batch_size": batch_size, "precision": precision, "num_images": len(sources)}
    bundle = open_model(model, image_size, read_as, headless=True, vocabulary=vocabulary)
    classifier = open_classifier(bundle, words, prompts, scores=scores.value, cache=cache, options=options)
    tell_choice(classifier.encoder.engine)
    if classifier.score_meaning == "cosine":
        say(
            "scores are cosines, not probabilities: the model was trained with softmax and has no probability for a "
            "single label"
        )
    if classifier.head == "softmax" and classifier.similarity.bias is not None:
        say(
            "probabilities add up to 1 over the labels; the model was trained to judge each label by itself, as SigLIP "
            "is: --scores independent gives those probabilities"
        )
    writer = Writer(style, top, meaning=classifier.score_meaning)
    results = renamed(classifier.stream(sources), names)
    write_all(results, len(sources), writer, doing="classifying", skip_unreadable=skip_unreadable)
