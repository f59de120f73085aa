"""The options that several verbs have, each said once; what one verb alone has is said in its own file.

Where verbs use an option each in its own way, it is a function here, and the verb gives it the sentence that says so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitsmith.cli.completion import engines, models, precisions, recipes

# The model, and what runs it

ModelArgument = Annotated[str, typer.Argument(help="A bundle, weights or a published name.", autocompletion=models)]
TorchModelArgument = Annotated[
    str, typer.Argument(help="A bundle of torch weights, a checkpoint or a published name.", autocompletion=models)
]
ImageSizeOption = Annotated[
    str,
    typer.Option(help="Of a checkpoint whose arrays do not show it: pixels, as 384, or as 224x320 (height x width)."),
]
VocabularyOption = Annotated[
    Path | None, typer.Option(help="Tokenizer file of a LiT .npz, when it is not beside it under the same name.")
]
LabelsOption = Annotated[
    list[str] | None, typer.Option(help="Names of the classes in order, parted by commas; may be repeated.")
]
LabelsFileOption = Annotated[
    Path | None, typer.Option(help="A file with the names of the classes, one a line in order.")
]
TemplatesOption = Annotated[
    str,
    typer.Option(help="clip, lit, simple, a file with one a line, or one like 'a photo of a {}.'; default: its own."),
]
EngineOption = Annotated[
    str, typer.Option(help="auto, torch, torch-compiled, onnx, openvino or executorch.", autocompletion=engines)
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="auto (the program's own; of weights fp32), fp32, or bf16 for torch and openvino.",
        autocompletion=precisions,
    ),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Images computed at once.")]

# Images and labelled data

ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(help="Files, folders, globs, or - for an image or a list of paths on standard input."),
]
DataInsteadOption = Annotated[
    str, typer.Option("--data", help="In place of IMAGES: every image of a labelled data set, whatever its label.")
]
ImageColumnOption = Annotated[
    str, typer.Option(help="Column of --data with paths or images, where it has no usual name.")
]
LabelColumnOption = Annotated[str, typer.Option(help="Column of --data with labels, where it has no usual name.")]
SkipOption = Annotated[
    float,
    typer.Option(
        min=0, max=0.999, help="Share of images that may be unreadable: told and left out; more of them stop the work."
    ),
]
StrictOption = Annotated[bool, typer.Option("--strict", help="Stop at the first image that cannot be read.")]
WithoutSplitOption = Annotated[
    bool,
    typer.Option("--without-split", help="Do not write down which images it was trained on and which were held out."),
]


DATA_SETS = "folder of class folders, .csv, .jsonl, tar shards, hf:OWNER/NAME or 'digits'"


def data_argument(kinds: str) -> Any:
    """DATA of the verbs that learn from it; `kinds` is what it may be."""
    return typer.Argument(metavar="[DATA]", help=f"What to learn from: {kinds}. May be in the recipe.")


def data_option(use: str) -> Any:
    """`--data`: a labelled data set; `use` is what its images are for."""
    return typer.Option("--data", help=f"Labelled images, as for evaluate: {use}.")


def images_option(use: str) -> Any:
    """`--images`: images without labels; `use` is what they are for."""
    return typer.Option("--images", help=f"Files or folders of images, {use}; may be repeated.")


def split_option(choice: str, usual: str) -> Any:
    """`--split`: a part of `--data`; `choice` is what there is, `usual` what is taken without it."""
    return typer.Option("--split", help=f"{choice} of --data; default: {usual}.")


def keep_option(usual: str) -> Any:
    """`--keep`: the share of a model's arithmetic (FLOPs) that is left; `usual` is what holds without it."""
    return typer.Option("--keep", help=f"Share of the FLOPs that is left, as 0.7; default: {usual}.")


# Demands


def max_drop_option(where: str = "on --data") -> Any:
    """`--max-drop`: points of top-1 accuracy."""
    return typer.Option("--max-drop", min=0, help=f"Points of top-1 that may be lost {where}.")


StrictGateOption = Annotated[
    bool,
    typer.Option(
        "--strict-gate", help="Refuse also when the labelled images are too few to tell whether --max-drop is kept."
    ),
]


def min_agreement_option() -> Any:
    """`--min-agreement`: the share of images that keep their answer."""
    return typer.Option(
        "--min-agreement", min=0, max=1, help="Without labels: least share of images answered as before."
    )


def min_speedup_option(measured: str) -> Any:
    """`--min-speedup`: times as fast; `measured` is how."""
    return typer.Option("--min-speedup", min=0, help=f"Least times as fast, {measured}.")


def limit_option(least: int = 1) -> Any:
    """`--limit`: how many images judge, at most."""
    return typer.Option("--limit", min=least, help="Evaluation images used, at most.")


def calibration_option(what: str, most: int | None = None) -> Any:
    """`--calibration`: how many images; `what` they do."""
    return typer.Option("--calibration", min=1, max=most, help=f"Images that {what}.")


# Training

DataAgainOption = Annotated[str, typer.Option("--data", help="DATA, as an option.")]
RecipeOption = Annotated[
    str, typer.Option(help="A recipe's name or .toml file; default: the verb's own.", autocompletion=recipes)
]
PixelsOption = Annotated[int | None, typer.Option("--image-size", min=1, help="Pixels a side; default: the recipe's.")]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Updates; default: the recipe's.")]
UpdateSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images, or pairs, an update; default: the recipe's.")
]
RateOption = Annotated[float | None, typer.Option("--lr", help="Highest learning rate; default: the recipe's.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of the recipe, as optimizer.lr=0.01; may be repeated.")
]
ResumeOption = Annotated[Path | None, typer.Option(help="Go on with the run in this folder.")]


def seed_option(decides: str) -> Any:
    """`--seed`; `decides` is what it decides."""
    return typer.Option("--seed", min=0, help=f"Decides {decides}.")


# What comes out, and where

TopOption = Annotated[int, typer.Option(min=1, help="Answers for each image; of a regression all are given.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Comma-separated values with a header.")]
RecordOption = Annotated[bool, typer.Option("--record", help="Write what was measured into the bundle.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Where to write, a place that holds nothing yet; default: a new folder under runs/.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace what the same verb wrote to --out before, and nothing else.")
]
