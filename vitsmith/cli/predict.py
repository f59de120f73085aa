"""`vitsmith predict`: names for images."""

from __future__ import annotations

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
    LabelsFileOption,
    LabelsOption,
    ModelArgument,
    PartOption,
    PrecisionOption,
    ReadAsOption,
    SkipAllOption,
    TopOption,
)
from vitsmith.cli.arguments.texts import class_names
from vitsmith.cli.terminal.answers import Writer, renamed, style_of, write_all
from vitsmith.cli.terminal.output import say


def predict(
    model: ModelArgument,
    images: ImagesArgument = None,
    data: DataInsteadOption = "",
    split: PartOption = "",
    image_column: ImageColumnOption = "",
    label_column: LabelColumnOption = "",
    top: TopOption = 1,
    json: JsonLinesOption = False,
    csv: CsvOption = False,
    batch_size: BatchSizeOption = 16,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "auto",
    skip_unreadable: SkipAllOption = None,
    image_size: ImageSizeOption = "",
    read_as: ReadAsOption = None,
    labels: LabelsOption = None,
    labels_file: LabelsFileOption = None,
    scaled_decoding: Annotated[
        bool,
        typer.Option("--scaled-decoding", help="Decode large JPEGs at a fraction of their size: faster, approximate."),
    ] = False,
) -> None:
    """Classify images. Unreadable images are reported and skipped, and the exit code is then 2."""
    from vitsmith.predict import Predictor
    from vitsmith.weights.labels import missing_labels

    style = style_of(json=json, csv=csv)
    named = class_names(labels, labels_file)
    described = labelled(data, image_column, label_column, split)
    sources, names = images_of(images or [], described, split)
    bundle = open_model(model, image_size, read_as, labels=named)
    if told := missing_labels(bundle):
        say(f"note: {told}")
    if scaled_decoding:
        bundle.preprocessing = bundle.preprocessing.model_copy(update={"scaled_decoding": True})
    predictor = Predictor(bundle, engine, batch_size=batch_size, precision=precision, num_images=len(sources))
    tell_choice(predictor.engine)
    if predictor.head == "sigmoid":
        say("each class is scored by itself (sigmoid): several may be present, and probabilities do not add up to 1")
    shown = bundle.classes if predictor.head == "regression" else top  # every value is an answer
    writer = Writer(style, shown, meaning=predictor.score_meaning, head=predictor.head)
    results = renamed(predictor.stream(sources), names)
    write_all(results, len(sources), writer, doing="predicting", skip_unreadable=skip_unreadable)
