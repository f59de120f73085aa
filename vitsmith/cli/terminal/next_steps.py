"""The commands that `vitsmith` alone prints: the usual next ones in the current folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitsmith.escapes import shell_quoted
from vitsmith.needs_torch import has_torch
from vitsmith.weights.unfinished_run import UnfinishedRun, unfinished_run

_BUNDLES = (
    *("bundle.json", "*/bundle.json", "*/model/bundle.json"),
    *("runs/*/model/bundle.json", "runs/*/*/model/bundle.json"),
)
_RUNS = ("recipe.json", "*/recipe.json", "runs/*/*/recipe.json")

Step = tuple[str, str]
"""A command, and what it does."""

_START: tuple[Step, ...] = (
    ("vitsmith quickstart", "train, evaluate, export and predict on real digits, in two minutes"),
    ("vitsmith probe FOLDER --model augreg:B_16", "what its features are worth on your images, before any training"),
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
    folder = _newest(here, _BUNDLES)
    run = _newest_run(here)
    if run is not None and run.resumable and (folder is None or _touched(run) > _written(folder / "bundle.json")):
        return f"{run.folder} has not ended.", [(run.resuming, "continue this run")]
    index = _newest(here, ("index.json", "*/index.json", "runs/*/*/index.json"))
    if folder is None:
        about, steps = "There is no model here yet.", list(_START if has_torch() else _START_WITHOUT_TORCH)
        if run is not None:
            about = f"{run.folder} ended before its first checkpoint. {about}"
            steps.insert(0, (_begun_with(run), "begin this run again"))
    else:
        is_run = folder.name == "model" and folder.parent != here
        bundle = os.path.relpath(folder.parent if is_run else folder, here)
        about, steps = f"{bundle} is a model.", _with_model(folder, shell_quoted(bundle))
        steps += [(run.resuming, "continue a run that has not ended")] if run is not None and run.resumable else []
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


def _newest_run(here: Path) -> UnfinishedRun | None:
    """The training run without a model that was written last; one that can be resumed, if there is any."""
    places = [path.parent for place in _RUNS for path in here.glob(place)]
    runs = [found for place in places if (found := unfinished_run(place)) is not None]
    newest = max(runs, key=lambda run: (run.resumable, _touched(run)), default=None)
    return newest and replace(newest, folder=Path(os.path.relpath(newest.folder, here)))


def _touched(run: UnfinishedRun) -> float:
    """When a run last saved something that it can be resumed from."""
    return max(_written(run.folder / name) for name in ("checkpoints", "embeddings"))


def _begun_with(run: UnfinishedRun) -> str:
    """The command that began a run, which may replace it now where that names its place."""
    command = (run.folder / "command.txt").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return f"{command} --force" if "--out" in command and "--force" not in command else command


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
