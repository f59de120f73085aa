"""What `vitsmith` says by itself: what is usual next in the folder where it stands."""

from __future__ import annotations

import os
from pathlib import Path

from vitsmith.escapes import shell_quoted

Step = tuple[str, str]
"""A command, and what it does."""

_START: tuple[Step, ...] = (
    ("vitsmith quickstart", "train, evaluate, export and predict on real digits, in two minutes"),
    ("vitsmith train FOLDER --model augreg:B_16", "fine-tune on a folder with one folder a class"),
    ("vitsmith models", "architectures and published weights"),
)


def next_steps(here: Path) -> tuple[str, list[Step]]:
    """A sentence about the folder, and the usual commands in it, with the paths that are there."""
    if (run := _unfinished(here)) is not None:
        verb = "lit" if Path(run).parent.name == "lit" else "train"
        return f"{run} has not ended.", [(f"vitsmith {verb} --resume {shell_quoted(run)}", "go on with it")]
    bundle = _newest_bundle(here)
    if bundle is None:
        return "There is no model here yet.", list(_START)
    return f"{bundle} is a model.", _with_model(here, bundle)


def _with_model(here: Path, bundle: str) -> list[Step]:
    typed = shell_quoted(bundle)
    steps = [
        (f"vitsmith predict {typed} IMAGES", "the classes of images"),
        (f"vitsmith evaluate {typed} --data DATA", "how good it is on labelled images"),
    ]
    if any((here / bundle / inside / "model.safetensors").is_file() for inside in (".", "model")):
        steps += [
            (f"vitsmith export {typed} --to onnx", "a program that needs no torch"),
            (f"vitsmith quantize {typed} --data DATA", "int8, if it answers as well and is faster"),
        ]
    return [*steps, (f"vitsmith benchmark {typed}", "how fast it is here, in every engine")]


def _newest_bundle(here: Path) -> str | None:
    """The run or bundle below a folder that was written last, as a path to type."""
    places = ("bundle.json", "*/bundle.json", "runs/*/model/bundle.json", "runs/*/*/model/bundle.json")
    found = [path for place in places for path in here.glob(place)]
    if not found:
        return None
    folder = max(found, key=_written).parent
    is_run = folder.name == "model" and folder.parent != here
    return os.path.relpath(folder.parent if is_run else folder, here)


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
