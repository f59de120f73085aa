"""Whether `recommend --data` chooses the model that is best after fine-tuning, on three data sets.

    pip install 'vitsmith[all]' scikit-image
    python benchmarks/choice_own_images.py [--seeds 0 1] [--towers FOLDER] [--out FILE.md]

Candidates: ViTs of three sizes at 64 pixels (S: width 48, depth 3, patch 16; M: 64, 4, 16; L: 64, 4, 8), trained here,
as no weights can be downloaded: `photos` on crops of 11 photos (group A of benchmarks/made_here.py), `shapes` on
vitsmith's drawn shapes, `turns` to tell by which right angle a crop of group A was turned; `photos-short` had a tenth
of the updates. They are written as .npz and served by a hub on this machine as the tests have it; the catalogue of
`vs.recommend` is replaced by them, and nothing else of it.
`on paper` is the top-1 of k-NN on held-out crops of group A, from other parts of the photos, which stands for the
figure that publishers state of ImageNet; as there, what was trained on its labels has an advantage.

Data: `digits` of scikit-learn, 20 of each class to learn from and all others held out; `faces` of
skimage.data.lfw_subset, faces and other pictures, 40 of each to learn from; `crops`, 9 other photos (group B), 12 crops
of the left part of each to learn from, and 60 of the right part held out. The seed decides which.

The choice: `vs.recommend(scenario="gpu-server", task="embed", data=...)` with the images to learn from alone; no time
of a machine is in it, so that the result does not depend on its load: of ties, within a point, the one with the fewest
operations is taken. Fine-tuned: all weights, 200 updates of 32 images with mild augmentation, one recipe for all. All
towers are scored on the same held-out images, and the best of all is taken by these scores, which is in its favour: its
advantage is partly luck.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import skimage
import torch
from made_here import (
    FRESH,
    GROUP_A,
    GROUP_B,
    PLAIN,
    QUIET,
    HubServer,
    hub,
    split_classes,
    train,
    write_crops,
    write_digits,
    write_faces,
)
from PIL import Image

import vitsmith as vs
from vitsmith.choosing.catalogue import Checkpoint
from vitsmith.machine import describe_machine
from vitsmith.models.cost import flops, parameters
from vitsmith.training.recipes.file import merge

SIZES = {"S": (48, 3, 16), "M": (64, 4, 16), "L": (64, 4, 8)}
"""Width, depth and patch."""
TOWERS = ("photos-S", "photos-M", "photos-L", "photos-short-M", "shapes-S", "shapes-M", "shapes-L", "turns-M")
RECIPE = {
    "schedule": {"steps": 200, "warmup": 20},
    "optimizer": {"lr": 0.003},
    "augment": {"area": [0.7, 1.0], "flip": False},
}
"""Of fine-tuning."""
SETS = ("crops", "faces", "digits")


class Choice(NamedTuple):
    """What was chosen for one data set and seed, before any fine-tuning."""

    name: str
    own: dict[str, float]
    """Accuracy of each tower on the images to learn from, as `recommend --data` measured it, in percent."""
    seconds: float


def write_turns(folder: Path, upright: Path) -> Path:
    """The crops of another folder, turned by 0, 90, 180 and 270 degrees in turns; the class is the angle."""
    for split in ("train", "val"):
        for index, file in enumerate(sorted((upright / split).glob("*/*.png"))):
            angle = 90 * (index % 4)
            place = folder / split / f"{angle:03d}"
            place.mkdir(parents=True, exist_ok=True)
            Image.open(file).rotate(angle).save(place / f"{index:04d}.png")
    return folder


def towers(place: Path, kept: Path, server: HubServer, steps: int) -> Iterator[Checkpoint]:
    """Trains the candidates that are not in `kept` yet, puts them on the hub, and fetches each once."""
    kept.mkdir(exist_ok=True)
    photos = write_crops(place / "a", GROUP_A, 100, 40)
    data = {"photos": str(photos), "shapes": "shapes", "turns": str(write_turns(place / "turned", photos))}
    for name in TOWERS:
        task, _, size = name.replace("-short", "").partition("-")
        weights = kept / f"{name}.npz"
        updates = max(steps // 10, 1) if "-short" in name else steps
        if not weights.exists():
            width, depth, patch = SIZES[size]
            config = {
                "width": width,
                "depth": depth,
                "heads": width // 16,
                "mlp_width": 2 * width,
                "patch": [patch] * 2,
            }
            schedule = {"schedule": {"steps": updates, "warmup": updates // 10}, "optimizer": {"lr": 0.001}}
            start = merge(FRESH, {"model": {"config": config}})
            run = train(Path(data[task]), place / "runs" / name, PLAIN, QUIET, start, schedule, {"run": {"seed": 0}})
            vs.save(run.trained.bundle, weights, format="npz")
        server.add(f"lab/{name}", {"model.npz": weights.read_bytes(), "README.md": b"made here"})
        yield checkpoint(name, str(photos), place, f"{updates} updates")


def checkpoint(name: str, photos: str, place: Path, note: str) -> Checkpoint:
    """A row of the catalogue, with its accuracy on paper."""
    source = f"hf:lab/{name}/model.npz"
    bundle = vs.load(source, headless=True)
    probed = vs.probe(photos, source, place / "paper" / name, cache=False, bundle=False)
    score = probed.best.score("k-NN")
    assert score is not None
    return Checkpoint(
        source=source,
        name=name,
        config=bundle.config,
        image_size=bundle.config.image_size,
        accuracy={"imagenet-knn": 100 * score.accuracy},
        accuracy_source="benchmarks/choice_own_images.py",
        tasks=frozenset({"embed"}),
        licence="",
        commercial=None,
        note=note,
    )


def data_set(name: str, place: Path, seed: int) -> Path:
    """A folder with train/ and val/."""
    folder = place / "data" / f"{name}-{seed}"
    if name == "crops":
        return write_crops(folder, GROUP_B, 12, 60, seed=seed)
    if name == "faces":
        return split_classes(write_faces(folder), 40, seed)
    return split_classes(write_digits(folder), 20, seed)


def chosen(data: Path, rows: list[Checkpoint], seed: int) -> Choice:
    """The choice, by the images to learn from."""
    began = time.perf_counter()
    with mock.patch("vitsmith.verbs.recommend.catalogue", lambda: tuple(rows)):
        found = vs.recommend(scenario="gpu-server", task="embed", data=str(data / "train"), seed=seed)
    best, own = found.best, found.own_images
    assert best is not None and own is not None and len(own.rows) == len(rows), own
    accuracies = {row.name: 100 * row.accuracy for row in own.rows}
    return Choice(best.checkpoint.name, accuracies, time.perf_counter() - began)


def fine_tuned(place: Path, folders: dict[int, Path], source: str, recipe: dict[str, Any]) -> list[float]:
    """Top-1 in percent on the held-out images after training all weights, each seed with its data."""
    scores = []
    for seed, data in folders.items():
        own: dict[str, Any] = {"model": {"init": source}, "run": {"seed": seed, "baseline": False}}
        with tempfile.TemporaryDirectory(dir=place) as out:
            scores.append(train(data, Path(out) / "run", PLAIN, QUIET, recipe, own).top1)
    return scores


def agreement(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation."""
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)


class Comparison:
    """The choices beside what fine-tuning comes to."""

    def __init__(self, rows: list[Checkpoint], seeds: list[int]) -> None:
        self._rows, self._seeds = rows, seeds
        self.paper = max(rows, key=lambda row: row.accuracy["imagenet-knn"]).name
        self._lines: list[str] = []
        self._below: dict[str, list[float]] = {"chosen": [], "on paper": [], "any": []}

    def add(self, data: str, choices: dict[int, Choice], fits: dict[str, list[float]]) -> None:
        """A line for each seed."""
        for place, seed in enumerate(self._seeds):
            choice = choices[seed]
            top1 = {name: one[place] for name, one in fits.items()}
            best, mean = max(top1, key=lambda name: top1[name]), statistics.mean(top1.values())
            for kind, value in (("chosen", top1[choice.name]), ("on paper", top1[self.paper]), ("any", mean)):
                self._below[kind].append(top1[best] - value)
            ranks = agreement([choice.own[name] for name in top1], list(top1.values()))
            printed = agreement([row.accuracy["imagenet-knn"] for row in self._rows], list(top1.values()))
            self._lines.append(
                f"| {data} | {seed} | {choice.name}: {top1[choice.name]:.1f} | {best}: {top1[best]:.1f} "
                f"| {self.paper}: {top1[self.paper]:.1f} | {mean:.1f} | {ranks:.2f} | {printed:.2f} "
                f"| {choice.seconds:.0f} |"
            )
            print(self._lines[-1], flush=True)

    def table(self) -> list[str]:
        told = ", ".join(
            f"{name} {statistics.mean(below):.1f} (at most {max(below):.1f})"
            for name, below in (
                ("the choice", self._below["chosen"]),
                ("the most accurate on paper", self._below["on paper"]),
                ("a tower at random", self._below["any"]),
            )
        )
        return [
            "| data | seed | chosen by `--data` | best of all | most accurate on paper | mean of all "
            "| rank correlation of own images | of paper | s |",
            "|---|---:|---|---|---|---:|---:|---:|---:|",
            *self._lines,
            "",
            f"Points of top-1 below the best of all, mean over {len(self._lines)} rows: {told}.",
        ]


def tower_table(rows: list[Checkpoint], fits: dict[str, dict[str, list[float]]]) -> list[str]:
    """What each candidate is, and what it reaches on each data set: mean over the seeds."""
    lines = [
        "| tower | trained for | parameters | MFLOPs | on paper | "
        + " | ".join(f"{name}, tuned" for name in fits)
        + " |",
        "|---|---|---:|---:|---:|" + "---:|" * len(fits),
    ]
    for row in rows:
        reached = [f"{statistics.mean(one[row.name]):.1f}" for one in fits.values()]
        config = row.config
        lines.append(
            f"| {row.name} | {row.note} | {parameters(config):,} | {flops(config) / 1e6:.0f} "
            f"| {row.accuracy['imagenet-knn']:.1f} | {' | '.join(reached)} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument(
        "--tiny", action="store_true", help="a few updates, to try the script; its numbers mean nothing"
    )
    parser.add_argument("--towers", type=Path, help="a folder of candidates: those that are there are not trained")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    recipe = merge(RECIPE, {"schedule": {"steps": 5, "warmup": 1}} if options.tiny else {})
    began, spent = time.perf_counter(), time.process_time()
    trained = (
        "candidates of an earlier run" if options.towers and options.towers.exists() else "all with its candidates"
    )
    fits: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder, hub(Path(folder)) as server:
        place = Path(folder)
        rows = []
        for row in towers(place, options.towers or place / "towers", server, 10 if options.tiny else 600):
            rows.append(row)
            print(f"{row.name}: {row.note}; on paper {row.accuracy['imagenet-knn']:.1f}", flush=True)
        comparison = Comparison(rows, options.seeds)
        for name in SETS:
            folders = {seed: data_set(name, place, seed) for seed in options.seeds}
            choices = {seed: chosen(data, rows, seed) for seed, data in folders.items()}
            fits[name] = {row.name: fine_tuned(place, folders, row.source, recipe) for row in rows}
            comparison.add(name, choices, fits[name])
    command = " ".join(["python benchmarks/choice_own_images.py", *(["--tiny"] if options.tiny else [])])
    report = [
        "# Choosing a model by own images, beside fine-tuning all of them",
        "",
        f"`{command} --seeds {' '.join(map(str, options.seeds))}`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__} (threads: {torch.get_num_threads()}), "
        f"scikit-image {skimage.__version__}, numpy {np.__version__}; {time.perf_counter() - began:.0f} s in all, "
        f"{time.process_time() - spent:.0f} CPU s ({trained}). Top-1 in percent of held-out images, after fine-tuning.",
        "",
        *comparison.table(),
        "",
        *tower_table(rows, fits),
        "",
        *["    " + line if line else "" for line in __doc__.splitlines()[5:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
