"""Data sets and towers that are made on this machine for other benchmarks, where none can be downloaded.

Crops of the photos that ship inside scikit-image and scikit-learn, in grey, whose class is the photo; the faces of
scikit-image; a run of training with a recipe; and a hub on this machine, which the tests have, to load towers from.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import skimage.data
from huggingface_hub import constants
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from vitsmith.data.sets.datasets import open_dataset
from vitsmith.runs.run import Run
from vitsmith.training.images.run import Trained, train_to_bundle
from vitsmith.training.recipes.file import merge, parse_recipe

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.weights.fetch.hub.hub_server import HubServer, running

SIZE = 64
TRAINING_SHARE = 0.6  # of a photo's width, from the left
SIDES = (0.2, 0.4)  # of a crop, over the photo's shorter side
FIRST = ("astronaut", "camera", "cell", "china", "coffee", "flower", "hubble_deep_field", "immunohistochemistry")
GROUP_A = (*FIRST, "motorcycle", "retina", "rocket")
GROUP_B = ("brick", "cat", "clock", "coins", "grass", "gravel", "moon", "page", "text")
CONFIG = {"width": 64, "depth": 4, "heads": 4, "mlp_width": 128, "patch": [8, 8], "pooling": "gap"}
FRESH = {"model": {"name": "ViT-Ti_16", "image_size": SIZE, "position_std": 1.0, "config": CONFIG}}
QUIET = {"run": {"eval_every": 0, "checkpoint_every": 0}}
PLAIN = {
    "augment": {"area": [0.3, 1.0]},
    "batch": {"size": 32},
    "optimizer": {"name": "adamw", "weight_decay": 0.05, "clip": 1.0},
}
Fields = Mapping[str, Any]


def open_photo(name: str) -> Image.Image:
    if name in ("china", "flower"):
        return Image.fromarray(load_sample_image(f"{name}.jpg")).convert("L")
    pixels = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
    return Image.fromarray(pixels).convert("L")


def cut_crops(
    photo: Image.Image, left: int, right: int, count: int, random: np.random.Generator, size: int = SIZE
) -> Iterator[Image.Image]:
    """`count` random squares between the columns `left` and `right`."""
    shorter = min(photo.size)
    for _ in range(count):
        side = round(random.uniform(*SIDES) * shorter)
        x, y = int(random.integers(left, right - side + 1)), int(random.integers(photo.height - side + 1))
        # Cut first: a resize with `box` would look beyond its edges.
        yield photo.crop((x, y, x + side, y + side)).resize((size, size), Image.Resampling.BICUBIC)


def write_crops(
    folder: Path, names: tuple[str, ...], training: int, held_out: int, size: int = SIZE, seed: int = 0
) -> Path:
    """Class folders below train/ and val/: crops of the left and of the right part of each photo."""
    random = np.random.default_rng(seed)
    for name in names:
        photo = open_photo(name)
        border = round(TRAINING_SHARE * photo.width)
        for split, left, right, count in (("train", 0, border, training), ("val", border, photo.width, held_out)):
            place = folder / split / name
            place.mkdir(parents=True)
            for index, crop in enumerate(cut_crops(photo, left, right, count, random, size)):
                crop.save(place / f"{index:03d}.png")
    return folder


class Timed(NamedTuple):
    """A run, and what it took."""

    trained: Trained
    seconds: float
    cpu_seconds: float

    @property
    def top1(self) -> float:
        return 100 * self.trained.result.final.scores.top1


def train(data: Path, out: Path, *layers: Fields) -> Timed:
    recipe = parse_recipe(merge(*layers, {"data": {"path": str(data)}}))
    splits = open_dataset(recipe.data, seed=recipe.run.seed)
    began, before = time.perf_counter(), time.process_time()
    with Run("train", out.name, out) as run:
        trained = train_to_bundle(recipe, splits, run)
    return Timed(trained, time.perf_counter() - began, time.process_time() - before)


@contextmanager
def hub(place: Path) -> Iterator[HubServer]:
    """A hub on this machine, with an empty cache."""
    with running() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        changes = {
            "HF_HUB_CACHE": str(place / "hub"),
            "ENDPOINT": server.address,
            "HUGGINGFACE_CO_URL_TEMPLATE": template,
        }
        with mock.patch.multiple(constants, **changes), mock.patch.dict(os.environ, {"no_proxy": "*"}):
            yield server


def write_faces(folder: Path) -> Path:
    """skimage's faces and other pictures, 100 of each, in class folders; equal ones once."""
    pictures = (255 * skimage.data.lfw_subset()).round().astype(np.uint8)
    seen: set[bytes] = set()
    for index, picture in enumerate(pictures):
        if picture.tobytes() in seen:
            continue
        seen.add(picture.tobytes())
        place = folder / ("face" if index < 100 else "other")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(place / f"{index:03d}.png")
    return folder


def write_digits(folder: Path) -> Path:
    """The 1,797 digits of scikit-learn, of 8x8 pixels, in class folders."""
    images, labels = load_digits(return_X_y=True)
    for index, (pixels, label) in enumerate(zip(images.reshape(-1, 8, 8), labels, strict=True)):
        place = folder / str(label)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).round().astype(np.uint8)).save(place / f"{index:04d}.png")
    return folder


def split_classes(folder: Path, training: int, seed: int) -> Path:
    """Moves `training` images of each class of `folder` to train/, chosen by the seed, and the others to val/."""
    random = np.random.default_rng(seed)
    for name in sorted(path.name for path in folder.iterdir()):
        files = sorted((folder / name).iterdir())
        chosen = set(random.permutation(len(files))[:training].tolist())
        for index, file in enumerate(files):
            place = folder / ("train" if index in chosen else "val") / name
            place.mkdir(parents=True, exist_ok=True)
            file.rename(place / file.name)
        (folder / name).rmdir()
    return folder
