"""The options that several verbs have, each defined once; an option of one verb is defined in the verb's file.

Where verbs use an option in different ways, it is a function here, and the verb gives the text about its use.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vitsmith.cli.arguments.completion import engines, models, precisions, recipes

# The model, and what runs it


def model_argument(kind: str = "") -> Any:
    """MODEL, and what it may be; `kind` is which models the verb takes, where it does not take all."""
    sources = "run folder, weights file, hf:OWNER/NAME or published name."
    told = f"{kind}: bundle, {sources}" if kind else f"Bundle, {sources}"
    return typer.Argument(metavar="MODEL", help=told, autocompletion=models)


ModelArgument = Annotated[str, model_argument()]
TorchModelArgument = Annotated[str, model_argument("Model with torch weights")]
ImageSizeOption = Annotated[
    str,
    typer.Option(
        help="Image size in pixels, as 384 or 224x320 (height x width), for weights files; default: what they say."
    ),
]
_CHOICES = (
    "gelu=erf, tanh or quick; pooling=token, gap or token_and_gap; periods=float32 or bfloat16; or preprocessing=usual "
    "where its file is missing; may be repeated."
)


def read_as_option(what: str = "a weights file", name: str = "--read-as") -> Any:
    """`--read-as`: how `what` is read; `name` is another one beside it."""
    return typer.Option(
        name, metavar="NAME=VALUE", help=f"How to read {what} that others read in another way: {_CHOICES}"
    )


ReadAsOption = Annotated[list[str] | None, read_as_option()]
VocabularyOption = Annotated[
    Path | None,
    typer.Option(help="Tokenizer file of an .npz of two towers, if it is not beside it under the same name."),
]
LabelsOption = Annotated[
    list[str] | None,
    typer.Option(help="Class names in the order of the outputs, separated by commas; may be repeated."),
]
LabelsFileOption = Annotated[
    Path | None,
    typer.Option(
        help="Text file with one class name a line, in the order of the outputs; or imagenet-1k, imagenet-21k."
    ),
]
TemplatesOption = Annotated[
    str, typer.Option(help="Prompts: clip, lit, simple, or one as 'a photo of a {}.'; default: the model's own.")
]
TemplatesFileOption = Annotated[Path | None, typer.Option(help="Text file with one prompt a line.")]
EngineOption = Annotated[
    str,
    typer.Option(help="Engine: auto, torch, torch-compiled, onnx, openvino or executorch.", autocompletion=engines),
]
PrecisionOption = Annotated[
    str,
    typer.Option(
        help="Precision, if an engine runs the model in it: auto (the program's; for weights fp32), fp32, fp16, bf16, "
        "int8; on a GPU int8-weights, fp8.",
        autocompletion=precisions,
    ),
]
EnginesOption = Annotated[
    list[str] | None,
    typer.Option(help="Engine; may be repeated. Default: all that are installed.", autocompletion=engines),
]
PrecisionsOption = Annotated[
    list[str] | None,
    typer.Option(help="Precision; may be repeated. Default: all that the engine has.", autocompletion=precisions),
]
BatchSizeOption = Annotated[int, typer.Option(min=1, help="Images per batch.")]

# Images and labelled data

ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGES",
        help="Image files, folders or globs; - reads an image, or paths one a line, from standard input.",
    ),
]
DataInsteadOption = Annotated[
    str, typer.Option("--data", help="Data set to use in place of IMAGES; its labels are ignored.")
]
PartOption = Annotated[
    str, typer.Option("--split", help="Part of --data to use: train, val, test or all; default: all.")
]
ImageColumnOption = Annotated[
    str, typer.Option(help="Column of --data with images or their paths; default: the one with a usual name.")
]
LabelColumnOption = Annotated[
    str, typer.Option(help="Column of --data with labels; default: the one with a usual name.")
]
SkipOption = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.999,
        help="Largest share of unreadable images: they are reported and skipped; if there are more, the command stops.",
    ),
]
SkipAllOption = Annotated[
    float | None,
    typer.Option(
        "--skip-unreadable",
        min=0,
        max=0.999,
        help="Largest share of unreadable images: if there are more, the command stops; 0: at the first. "
        "Default: all are skipped, and the exit code is 2.",
    ),
]
WithoutSplitOption = Annotated[
    bool,
    typer.Option("--without-split", help="Do not store which images were used for training and which were held out."),
]


DATA_SETS = "folder of class folders, .csv, .jsonl, tar shards, hf:OWNER/NAME or 'digits'"


def data_argument(kinds: str) -> Any:
    """DATA of the verbs that learn from it; `kinds` is what it may be."""
    return typer.Argument(metavar="DATA", help=f"Training data: {kinds}. A recipe may name it instead.")


def data_option(use: str) -> Any:
    """`--data`: a labelled data set; `use` is what its images are for."""
    return typer.Option("--data", help=f"Labelled data set: {use}.")


def images_option(use: str) -> Any:
    """`--images`: images without labels; `use` is what they are for."""
    return typer.Option("--images", help=f"Images without labels (files, folders, globs) {use}; may be repeated.")


def split_option(choice: str, usual: str) -> Any:
    """`--split`: a part of `--data`; `choice` lists the parts, `usual` is the default."""
    return typer.Option("--split", help=f"Part of --data to evaluate on: {choice}; default: {usual}.")


def keep_option(usual: str) -> Any:
    """`--keep`: the share of a model's arithmetic (FLOPs) that is left; `usual` is the default."""
    return typer.Option("--keep", help=f"Share of the FLOPs to keep, as 0.7; default: {usual}.")


# Requirements


def max_drop_option(where: str = "on --data") -> Any:
    """`--max-drop`: points of top-1 accuracy; `where` says on which images, and the default if that is None."""
    return typer.Option("--max-drop", min=0, help=f"Largest drop of top-1 accuracy in points {where}.")


StrictGateOption = Annotated[
    bool,
    typer.Option(
        "--strict-gate", help="Also refuse if the labelled images are too few to tell whether --max-drop is kept."
    ),
]


def min_agreement_option(usual: float) -> Any:
    """`--min-agreement`: the share of images that keep their answer; `usual` is the default."""
    told = f"Without labels: smallest share of images with the same answer as before; default: {usual}."
    return typer.Option("--min-agreement", min=0, max=1, help=told)


def min_speedup_option(measured: str) -> Any:
    """`--min-speedup`: times as fast; `measured` says how that is measured."""
    return typer.Option("--min-speedup", min=0, help=f"Smallest speed-up {measured}.")


def limit_option(least: int = 1) -> Any:
    """`--limit`: the most evaluation images."""
    return typer.Option("--limit", min=least, help="Largest number of evaluation images.")


def calibration_option(use: str, most: int | None = None) -> Any:
    """`--calibration`: the most calibration images; `use` says what they are for."""
    return typer.Option("--calibration", min=1, max=most, help=f"Largest number of calibration images: {use}.")


# Training

DataAgainOption = Annotated[str, typer.Option("--data", help="The same as DATA.")]
RecipeOption = Annotated[
    str, typer.Option(help="Name of a recipe, or a .toml file; default: the verb's own.", autocompletion=recipes)
]
PixelsOption = Annotated[
    int | None, typer.Option("--image-size", min=1, help="Image size in pixels; default: the recipe's.")
]
StepsOption = Annotated[int | None, typer.Option(min=1, help="Number of updates; default: the recipe's.")]
UpdateSizeOption = Annotated[
    int | None, typer.Option("--batch-size", min=1, help="Images (or pairs) per update; default: the recipe's.")
]
RateOption = Annotated[float | None, typer.Option("--lr", help="Peak learning rate; default: the recipe's.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Any field of the recipe, as optimizer.lr=0.01; may be repeated.")
]
ResumeOption = Annotated[Path | None, typer.Option(help="Continue the run in this folder.")]


def seed_option(decides: str) -> Any:
    """`--seed`; `decides` names what depends on it."""
    return typer.Option("--seed", min=0, help=f"Random seed of {decides}.")


# Results, and where they go

TopOption = Annotated[
    int, typer.Option(min=1, help="Answers per image, best first; regression models print all values.")
]
PlanOption = Annotated[
    bool, typer.Option("--plan", help="Print memory, time and disk that the run would take here, and stop.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="Print comma-separated values with a header.")]


def sheet_option(what: str) -> Any:
    """`--sheet`: a page of pictures; `what` is what it shows."""
    return typer.Option("--sheet", metavar="FILE.html", help=f"Also write {what} as a page of small pictures.")


RecordOption = Annotated[bool, typer.Option("--record", help="Store the measurements in the bundle.")]
OutOption = Annotated[
    Path | None, typer.Option(help="Where to write: a new or empty place; default: a new folder under runs/.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an earlier result of the same verb in --out, and nothing else.")
]
