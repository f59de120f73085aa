"""Does fine-tuning from a bundle beat training from scratch, at equal updates, on a small data set made from photos?

    python benchmarks/finetune_photos.py [--seeds 0 1 2] [--steps 100] [--out benchmarks/results/FILE.md]

Data: crops of the photos and textures that ship inside scikit-image and scikit-learn; the class is the photo. A crop's
side is 0.2 to 0.4 of the photo's shorter side, resized to 64 pixels, in grey, so that colour does not give the class
away. Crops to train on come from the left 60 % of a photo, held-out ones from the rest: no pixel is on both sides.
Group A, 11 photos with 100 crops each, pre-trains a bundle. Group B, 9 other photos with 12 training and 40 held-out
crops each, is what the two are compared on. All are PNG files in class folders and go through the public doors.

Model: ViT of width 64 and depth 4, patch 8 (151 thousand weights). Both sides have the same recipe but for
`model.init`, among four learning rates each takes the one that is best for it by the mean over the seeds, judged on
the held-out crops (in favour of both alike). The score is that of the last update, never the best on the way. Seeds
decide fresh weights, order and crops; the files and the bundle are the same for all.

Then the recipe `finetune-small-data` on the same bundle and crops, as it is and at a higher rate; from scratch as it
is, and at that rate without what only suits a checkpoint (layer_decay 1).

CPU seconds are those of the whole of `train_to_bundle`, all threads, and say more than the clock on a busy machine.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import skimage
import sklearn
import torch
from made_here import FRESH, GROUP_A, GROUP_B, PLAIN, QUIET, Fields, Timed, train, write_crops

from vitsmith.machine import describe_machine
from vitsmith.training.recipes.file import merge, read_recipe

RATES = (0.001, 0.003, 0.01, 0.03)
HIGHER_RATE = 0.01  # the recipe's 0.0005 is for large models; this small one learns best at 0.01, from either start


class Arm(NamedTuple):
    """One recipe over all seeds."""

    name: str
    rate: float
    runs: list[Timed]

    @property
    def scores(self) -> list[float]:
        return [run.top1 for run in self.runs]

    @property
    def mean(self) -> float:
        return statistics.mean(self.scores)

    def __str__(self) -> str:
        each = ", ".join(f"{score:.1f}" for score in self.scores)
        spread = f"{statistics.stdev(self.scores):.1f}" if len(self.runs) > 1 else ""
        seconds = statistics.median(run.seconds for run in self.runs)
        cpu = statistics.median(run.cpu_seconds for run in self.runs)
        return f"| {self.name} | {self.rate:g} | {self.mean:.1f} | {spread} | {each} | {seconds:.0f} | {cpu:.0f} |"


HEADING = (
    "| start | rate | top-1 | deviation | each seed | wall s a run | CPU s a run |",
    "|---|---:|---:|---:|---|---:|---:|",
)


class Comparison:
    """Runs on group B, from the bundle and from nothing."""

    def __init__(self, folder: Path, bundle: Path, seeds: list[int]) -> None:
        self._folder, self._bundle, self._seeds = folder, bundle, seeds
        self._data = folder / "b"

    def arm(self, name: str, recipe: Fields, rate: float, *, tuned: bool) -> Arm:
        begin: Fields = {"model": {"init": str(self._bundle)}} if tuned else FRESH
        runs = []
        for seed in self._seeds:
            out = self._folder / "runs" / f"{name}-{rate:g}-{seed}"
            # The features' worth is the same for every seed and rate: it is told once.
            told = tuned and seed == self._seeds[0] and not list(self._folder.glob("runs/*/baseline.json"))
            changes = {"optimizer": {"lr": rate}, "run": {"seed": seed, "baseline": told}}
            runs.append(train(self._data, out, recipe, QUIET, begin, changes))
        arm = Arm(name, rate, runs)
        print(arm, flush=True)
        return arm


def best(arms: list[Arm]) -> Arm:
    return max(arms, key=lambda arm: arm.mean)


def describe_gain(tuned: Arm, fresh: Arm) -> str:
    beside = ", ".join(f"{ours - theirs:+.1f}" for ours, theirs in zip(tuned.scores, fresh.scores, strict=True))
    return (
        f"Fine-tuned {tuned.mean:.1f} (rate {tuned.rate:g}), from scratch {fresh.mean:.1f} ({fresh.name}, rate "
        f"{fresh.rate:g}): {tuned.mean - fresh.mean:+.1f} points; seed by seed {beside}."
    )


def compare_rates(comparison: Comparison, steps: int) -> list[str]:
    recipe = merge(PLAIN, {"schedule": {"steps": steps, "warmup": steps // 10}})
    tuned = [comparison.arm("bundle", recipe, rate, tuned=True) for rate in RATES]
    fresh = [comparison.arm("scratch", recipe, rate, tuned=False) for rate in RATES]
    baseline = next(run.trained.baseline for arm in tuned for run in arm.runs if run.trained.baseline)
    return [
        f"## The same recipe, {steps} updates of 32 crops",
        "",
        *HEADING,
        *map(str, [*tuned, *fresh]),
        "",
        "Each at its best. " + describe_gain(best(tuned), best(fresh)),
        "",
        f"What the run prints of the bundle's features: {baseline}.",
        "",
    ]


def compare_small_data(comparison: Comparison) -> list[str]:
    recipe = read_recipe("finetune-small-data")
    rate = recipe["optimizer"]["lr"]
    flat = merge(recipe, {"optimizer": {"layer_decay": 1.0}})
    tuned = [comparison.arm("bundle, as it is", recipe, rate, tuned=True)]
    fresh = [comparison.arm("scratch, as it is", recipe, rate, tuned=False)]
    tuned.append(comparison.arm("bundle, higher rate", recipe, HIGHER_RATE, tuned=True))
    fresh.append(comparison.arm("scratch, layer_decay 1", flat, HIGHER_RATE, tuned=False))
    steps = tuned[0].runs[0].trained.recipe.schedule.steps
    return [
        f"## The recipe `finetune-small-data`: {steps} updates of {recipe['batch']['size']} crops",
        "",
        *HEADING,
        *map(str, [*tuned, *fresh]),
        "",
        "As it is. " + describe_gain(tuned[0], fresh[0]),
        "",
        "Each at its best. " + describe_gain(best(tuned), best(fresh)),
        "",
    ]


def compare(folder: Path, seeds: list[int], steps: int) -> list[str]:
    write_crops(folder / "a", GROUP_A, 100, 20)
    write_crops(folder / "b", GROUP_B, 12, 40)
    schedule = {"schedule": {"steps": 600, "warmup": 60}, "optimizer": {"lr": 0.001}}
    first = train(folder / "a", folder / "pretrained", PLAIN, QUIET, FRESH, schedule, {"run": {"seed": 0}})
    bundle = first.trained.bundle.folder
    assert bundle is not None
    told = (
        f"Pre-training on group A: 600 updates of 32, {first.top1:.1f} % of its held-out crops, "
        f"{first.seconds:.0f} s ({first.cpu_seconds:.0f} CPU s)."
    )
    print(told, flush=True)
    comparison = Comparison(folder, bundle, seeds)
    return [told, "", *compare_rates(comparison, steps), *compare_small_data(comparison)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    began, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        parts = compare(Path(place), options.seeds, options.steps)
    seeds = " ".join(map(str, options.seeds))
    report = [
        "# A bundle fine-tuned on a few crops of photos, beside the same model from scratch",
        "",
        f"`python benchmarks/finetune_photos.py --seeds {seeds} --steps {options.steps}`, {datetime.date.today()}, "
        f"{describe_machine()}, Python {platform.python_version()}, torch {torch.__version__} "
        f"(threads: {torch.get_num_threads()}), scikit-image {skimage.__version__}, "
        f"scikit-learn {sklearn.__version__}; load of the machine at the start: {load:.1f}; "
        f"{time.perf_counter() - began:.0f} s in all. Top-1 in percent of 360 held-out crops; deviation over seeds.",
        "",
        *parts,
        *["    " + line if line else "" for line in __doc__.splitlines()[4:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
