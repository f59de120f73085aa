"""Small runs of `lit` for tests: images of six colours with captions, and a locked ViT with random weights."""

from __future__ import annotations

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.tiny import CONFIGS, tiny_model
from vitsmith.models.configure import change
from vitsmith.specs import ImageSpec
from vitsmith.training.recipes.file import merge, parse_fields
from vitsmith.training.recipes.lit import LitRecipe
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.save import save

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 30),
    "blue": (30, 30, 220),
    "yellow": (220, 220, 30),
    "white": (240, 240, 240),
    "black": (15, 15, 15),
}
FIELDS: dict[str, Any] = {
    "data": {"val_fraction": 0.25},
    "text": {"width": 32, "depth": 1, "heads": 2, "length": 8, "templates": "a {} picture"},
    "batch": {"size": 8},
    "optimizer": {"name": "adamw", "lr": 0.01},
    "schedule": {"steps": 12, "warmup": 2},
    "run": {"eval_every": 6, "checkpoint_every": 0},
}


def write_tower(folder: Path, name: str = "vit-gap", *, seed: int = 0) -> Path:
    """A bundle of a tiny image model."""
    config = CONFIGS[name]
    if config.family != "lit":
        config = change(config, image_size=(16, 16))
    save(Bundle.of(tiny_model(config, seed=seed), preprocessing=ImageSpec.original(config.image_size)), folder)
    return folder


def write_pairs(folder: Path, count: int = 48) -> Path:
    """A table of images, each with one of twelve captions that name its colour."""
    random = np.random.default_rng(0)
    folder.mkdir(parents=True)
    rows = [("path", "caption")]
    for index in range(count):
        name, colour = list(COLOURS.items())[index % len(COLOURS)]
        pixels = np.clip(np.array(colour) + random.integers(-15, 15, (20, 20, 3)), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
        rows.append((f"{index:02d}.png", f"a {name} picture" if index % 12 < 6 else f"Something {name}"))
    with (folder / "pairs.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    return folder / "pairs.csv"


def lit_recipe(tower: Path, pairs: Path, **changes: Any) -> LitRecipe:
    return parse_fields(
        merge(FIELDS, {"data": {"path": str(pairs)}, "image": {"init": str(tower)}}, changes), LitRecipe
    )


def lit_command(*arguments: str, processes: int = 1) -> list[str]:
    """`vitsmith lit ...`, as torchrun starts it when there are several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "vitsmith", "lit", *arguments]
