"""Small runs for tests: images of three colours, which are their classes, and a ViT that learns them in seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitsmith.data.batches.loader import Crops
from vitsmith.data.sets.samples import Samples, Splits
from vitsmith.specs import ImageSpec
from vitsmith.training.checkpoint.disk import CheckpointWriter
from vitsmith.training.devices import Devices
from vitsmith.training.images.result import TrainResult
from vitsmith.training.images.start import start
from vitsmith.training.images.task import ImageTask
from vitsmith.training.learner import Learner
from vitsmith.training.loop import Training
from vitsmith.training.monitor.events import Listener, ignore
from vitsmith.training.recipes.file import merge, parse_recipe
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.stop import StopRequest
from vitsmith.training.update.losses import classification_loss

SPEC = ImageSpec.original(16)
FIELDS: dict[str, Any] = {
    "data": {"path": "colours"},
    "model": {
        "name": "ViT-mu_16",
        "image_size": 16,
        "config": {"width": 32, "heads": 2, "depth": 1, "mlp_width": 32, "patch": [8, 8]},
    },
    "schedule": {"steps": 12, "warmup": 2},
    "batch": {"size": 12, "micro": 2},
    "optimizer": {"lr": 0.2},
    "run": {"eval_every": 6},
}


def coloured(count: int) -> Samples:
    random = np.random.default_rng(0)
    labels = np.arange(count, dtype=np.int64) % 3
    images = random.integers(0, 80, (count, 20, 20, 3)).astype(np.uint8)
    images[np.arange(count), :, :, labels] += 150
    return Samples(("red", "green", "blue"), list(images), [str(index) for index in range(count)], labels)


def splits() -> Splits:
    return Splits(coloured(36), coloured(15))


def recipe(**changes: dict[str, Any]) -> TrainRecipe:
    return parse_recipe(merge(FIELDS, changes))


def training(
    wanted: TrainRecipe,
    *,
    data: Splits | None = None,
    on_event: Listener = ignore,
    stop: StopRequest | None = None,
    checkpoints: CheckpointWriter | None = None,
) -> Training[Crops, TrainResult]:
    """One run in this process, ready to go."""
    began = start(wanted, 3)
    devices = Devices(torch.device("cpu"))
    learner = Learner.of(began.model, wanted, classification_loss, devices, checkpointing=False)
    micro = wanted.batch.micro or wanted.batch.size
    task = ImageTask(learner, data or splits(), wanted, began.images, devices, micro)
    return Training(task, stop or StopRequest(), checkpoints, on_event=on_event)


def write_folder(folder: Path, count: int = 48) -> Path:
    """The coloured images as a folder of class folders."""
    samples = coloured(count)
    for index in range(count):
        path = folder / samples.classes[samples.labels[index]] / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(samples.image(index)).save(path)
    return folder


def settings(fields: dict[str, Any], prefix: str = "") -> list[str]:
    """The fields as options: --set section.field=value ..."""
    options: list[str] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            options += settings(value, f"{prefix}{name}.")
        else:
            options += ["--set", f"{prefix}{name}={value if isinstance(value, str) else json.dumps(value)}"]
    return options


def command(*arguments: str, processes: int = 1) -> list[str]:
    """`vitsmith ...`, as torchrun starts it when there are several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "vitsmith", *arguments]


def run(*arguments: str, processes: int = 1, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command(*arguments, processes=processes),
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
        **options,
    )


def logged(folder: Path, event: str, field: str) -> list[Any]:
    """One field of every event of a kind in a run's metrics."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row[field] for row in rows if row["event"] == event]
