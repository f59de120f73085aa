"""The commands that `vitsmith` alone prints: the usual next ones in the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vitsmith.escapes import shell_quoted
from vitsmith.needs_torch import has_torch

Step = tuple[str, str]
"""A command, and what it does."""

_START: tuple[Step, ...] = (
    ("vitsmith quickstart", "train, evaluate, export and predict on real digits, in two minutes"),
    ("vitsmith train FOLDER --model augreg:B_16", "fine-tune on a folder with one folder a class"),
    ("vitsmith models", "architectures and published weights"),
)
_START_WITHOUT_TORCH: tuple[Step, ...] = (
    ("vitsmith predict BUNDLE IMAGES", "the classes of images, by an exported bundle"),
    ("vitsmith inspect BUNDLE", "what is in a bundle"),
    ("pip install 'vitsmith[all]'", "torch and what else it takes to train and export"),
)


def next_steps(here: Path) -> tuple[str, list[Step]]:
    """A sentence about the folder, and the usual commands in it, with the paths that are there."""
    if (run := _unfinished(here)) is not None:
        verb = "lit" if Path(run).parent.name == "lit" else "train"
        return f"{run} has not ended.", [(f"vitsmith {verb} --resume {shell_quoted(run)}", "continue this run")]
    folder = _newest(here, ("bundle.json", "*/bundle.json", "runs/*/model/bundle.json", "runs/*/*/model/bundle.json"))
    index = _newest(here, ("index.json", "*/index.json", "runs/*/*/index.json"))
    if folder is None:
        about, steps = "There is no model here yet.", list(_START if has_torch() else _START_WITHOUT_TORCH)
    else:
        is_run = folder.name == "model" and folder.parent != here
        bundle = os.path.relpath(folder.parent if is_run else folder, here)
        about, steps = f"{bundle} is a model.", _with_model(folder, shell_quoted(bundle))
    if index is not None:
        typed = os.path.relpath(index, here)
        about += f" {typed} is an index."
        retrieve = f"vitsmith retrieve --images IMAGE --index {shell_quoted(typed)}"
        steps.append((retrieve, "the entries nearest to an image"))
    return about, steps


def _with_model(folder: Path, typed: str) -> list[Step]:
    """The commands that work with the bundle in `folder`, by its bundle.json."""
    from vitsmith.json_text import json_or_none

    fields = json_or_none(folder / "bundle.json")
    config = fields.get("config") if isinstance(fields, dict) else None
    if not isinstance(config, dict):
        return [(f"vitsmith inspect {typed}", "what is wrong with it")]
    steps, calibrated_on = _answers(folder, fields, config, typed)
    if (folder / "model.safetensors").is_file() and has_torch():
        steps.append((f"vitsmith export {typed} --to onnx", "a program that needs no torch"))
        if calibrated_on:
            quantize = f"vitsmith quantize {typed} {calibrated_on}"
            steps.append((quantize, "int8, if it answers as well and is faster"))
    return [*steps, (f"vitsmith benchmark {typed}", "how fast it is here, in every engine")]


def _answers(folder: Path, fields: dict[str, Any], config: dict[str, Any], typed: str) -> tuple[list[Step], str]:
    """The steps that show a model's answers, and how `quantize` is given images; '' where it is refused."""
    embed = (f"vitsmith embed {typed} IMAGES --out INDEX", "an index of images, to search in")
    predict = f"vitsmith predict {typed} IMAGES"
    if config.get("family") == "lit":
        zeroshot = f"vitsmith zeroshot {typed} IMAGES --labels 'cat, dog'"
        evaluate = f"vitsmith evaluate {typed} --zeroshot --data DATA"
        words = [(zeroshot, "which label fits an image"), (evaluate, "how good it is on labelled images")]
        return [*(words if any(folder.glob("tokenizer.*")) else ()), embed], "--images IMAGES"
    if not config.get("classes"):
        return [embed], "--images IMAGES"
    if fields.get("head") == "regression":
        return [(predict, "the values of images")], ""
    labelled = "--data DATA" if fields.get("labels") else "--data DATA --labels-file FILE"
    evaluate = f"vitsmith evaluate {typed} {labelled}"
    return [(predict, "the classes of images"), (evaluate, "how good it is on labelled images")], labelled


def _newest(here: Path, places: Iterable[str]) -> Path | None:
    """The folder of the file that was written last, of those at `places` below a folder."""
    found = [path for place in places for path in here.glob(place)]
    return max(found, key=_written).parent if found else None


def _unfinished(here: Path) -> str | None:
    """A training run with checkpoints and no model, newer than every model."""
    runs = {path.parent.parent for path in here.glob("runs/*/*/checkpoints/step-*")}
    unfinished = [run for run in runs if (run / "recipe.json").is_file() and not (run / "model").exists()]
    if not unfinished:
        return None
    run = max(unfinished, key=lambda run: _written(run / "checkpoints"))
    models = map(_written, here.glob("runs/*/*/model/bundle.json"))
    return os.path.relpath(run, here) if _written(run / "checkpoints") > max(models, default=0.0) else None


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
