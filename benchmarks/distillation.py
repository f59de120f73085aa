"""Does a small student gain from a teacher, over the same student trained alone, on real images?

    python benchmarks/distillation.py [--labels 200] [--steps 1500] [--kinds soft deit-soft deit-hard] [--out FILE.md]

Data: scikit-learn's 1,797 digits, half of each class held out: 898 images that neither teacher nor student learns from.
Teacher: the ViT of the recipe `digits`, width 64 and depth 4, trained on the 899 other digits with their labels.
Student: width 32, depth 2, on the first `--labels` images of these 899, as many of each class; 0 means all of them. The
teacher answers for the student's own crops only: it brings no images.

Every run is `train_to_bundle` with the recipe `digits` and the changes shown, which is what `vitsmith distill --recipe
digits` does; the teacher is read from the bundle that its own run wrote. Every student gets the same number of updates,
the same crops in the same batches, and the same schedule; a seed decides weights, order and crops. Scores are those of
the last update, never the best on the way.

The student alone takes the best of three learning rates, with and without mixup, by its score on the held-out images
with the first seed; that it is judged on the images it was chosen by is in its favour. Distilled students have one
setting, rate 0.1, no mixup, T 3: it comes from a first look at short runs of 'soft' on these images, before this
script trained by recipes, and was not looked for again. DeiT's kinds have a class token and a distillation token, the
others the mean over patches; so DeiT's stand beside a student of their own form and setting that learns from labels
alone ("two heads, labels only").

CPU seconds are those of the whole of `train_to_bundle`, all threads; on a machine with other work they say more than
the clock.
"""

from __future__ import annotations

import argparse
import datetime
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch

from vitsmith import __version__
from vitsmith.data.sets.digits import open_digits
from vitsmith.data.sets.samples import Samples, Splits, stratified_split
from vitsmith.machine import describe_machine
from vitsmith.runs.run import Run
from vitsmith.training.images.run import train_to_bundle
from vitsmith.training.recipes.file import merge, parse_recipe, read_recipe

Fields = Mapping[str, Any]

QUIET: Fields = {"run": {"eval_every": 0, "checkpoint_every": 0}}
TEACHER: Fields = {"schedule": {"steps": 1200, "warmup": 120}}
STUDENT: Fields = {"model": {"config": {"width": 32, "depth": 2, "heads": 2, "mlp_width": 64}}}
TWO_HEADS = merge(STUDENT, {"model": {"config": {"pooling": "token", "distillation_token": True}}})
RATES, MIXUPS = (0.1, 0.2, 0.4), (0.0, 0.5)
RATE = 0.1
KINDS: Mapping[str, Fields] = {
    "soft": {"temperature": 3.0, "weight": 1.0},
    "deit-soft": {"temperature": 3.0, "weight": 0.5},
    "deit-hard": {"weight": 0.5},
}


class Job(NamedTuple):
    """One run: where it goes, what it learns from, and what it changes in the recipe `digits`."""

    out: Path
    labels: int
    """How many images it learns from; 0: all that are not held out."""
    changes: Fields


class Done(NamedTuple):
    """What a run came to."""

    top1: float
    cpu_seconds: float
    weights: int
    bundle: Path


class Arm(NamedTuple):
    """Students of one kind, one for each seed."""

    name: str
    changes: Fields
    runs: list[Done]

    @property
    def scores(self) -> list[float]:
        return [run.top1 for run in self.runs]

    def __str__(self) -> str:
        each = ", ".join(f"{score:.2f}" for score in self.scores)
        spread = f"{statistics.stdev(self.scores):.2f}" if len(self.runs) > 1 else ""
        cpu = statistics.median(run.cpu_seconds for run in self.runs)
        return (
            f"| {self.name} | {self.changes['optimizer']['lr']:g} | {self.changes['augment']['mixup']:g} "
            f"| {statistics.mean(self.scores):.2f} | {spread} | {each} | {cpu:.0f} |"
        )


def open_halves(labels: int) -> Splits:
    """The digits, half of each class held out; of the others the first `labels`, as many of each class."""
    splits = open_digits()
    parts = (splits.train, splits.val)
    everything = Samples(
        splits.classes,
        [source for part in parts for source in part.sources],
        [name for part in parts for name in part.names],
        np.concatenate([part.labels for part in parts]),
    )
    halves = stratified_split(everything, seed=0, fraction=0.5)
    if not labels:
        return halves
    share = labels // len(splits.classes)
    first = [np.flatnonzero(halves.train.labels == label)[:share] for label in range(len(splits.classes))]
    return Splits(halves.train.select(np.concatenate(first)), halves.val)


def carry_out(job: Job) -> Done:
    """In a process of its own: one thread computes, so that two runs share two cores."""
    torch.set_num_threads(1)
    splits = open_halves(job.labels)
    recipe = parse_recipe(merge(read_recipe("digits"), QUIET, job.changes))
    began = time.process_time()
    with Run("distill", job.out.name, job.out) as run:
        trained = train_to_bundle(recipe, splits, run)
    seconds = time.process_time() - began
    weights = sum(parameter.numel() for parameter in trained.bundle.model.parameters())
    return Done(100 * trained.result.final.scores.top1, seconds, weights, run.folder / "model")


def setting(rate: float, mixup: float = 0.0) -> Fields:
    return {"optimizer": {"lr": rate}, "augment": {"mixup": mixup}}


class Comparison:
    """Students on the same images, with the same number of updates."""

    def __init__(self, pool: ProcessPoolExecutor, folder: Path, options: argparse.Namespace) -> None:
        self._pool, self._folder = pool, folder
        self._labels, self._seeds = options.labels, options.seeds
        self._schedule = {"schedule": {"steps": options.steps, "warmup": options.steps // 10}}

    def teach(self) -> Done:
        return self._pool.submit(carry_out, Job(self._folder / "teacher", 0, TEACHER)).result()

    def train(self, arms: Mapping[str, Fields], seeds: list[int]) -> list[Arm]:
        """One student for each of the named changes and each seed."""
        jobs = []
        for (name, changes), seed in product(arms.items(), seeds):
            whole = merge(self._schedule, changes, {"run": {"seed": seed}})
            jobs.append(Job(self._folder / f"{name} {seed}".replace(" ", "-"), self._labels, whole))
        done = self._pool.map(carry_out, jobs)
        found = [Arm(name, changes, [next(done) for _ in seeds]) for name, changes in arms.items()]
        print(*found, sep="\n", flush=True)
        return found

    def choose_alone(self) -> tuple[list[Arm], Arm]:
        """All settings of the student alone with the first seed, and the best of them with all seeds."""
        settings = {
            f"alone, {rate:g}, {mixup:g}": merge(STUDENT, setting(rate, mixup))
            for mixup, rate in product(MIXUPS, RATES)
        }
        tried = self.train(settings, self._seeds[:1])
        best = max(tried, key=lambda arm: arm.scores[0])
        [rest] = self.train({best.name: best.changes}, self._seeds[1:])
        tried = [arm._replace(name="alone") for arm in tried]
        return tried, Arm("alone", best.changes, best.runs + rest.runs)

    def distil(self, teacher: Path, kinds: list[str]) -> list[Arm]:
        """The kinds of distillation with all seeds, behind the student of DeiT's form without a teacher."""
        arms = {"two heads, labels only": merge(TWO_HEADS, setting(RATE))}
        for kind in kinds:
            student = STUDENT if kind == "soft" else TWO_HEADS
            distill = {"distill": {"teacher": str(teacher), "kind": kind, **KINDS[kind]}}
            arms[kind] = merge(student, setting(RATE), distill)
        return self.train(arms, self._seeds)


def describe_gain(arm: Arm, beside: Arm) -> str:
    gains = [ours - theirs for ours, theirs in zip(arm.scores, beside.scores, strict=True)]
    each = ", ".join(f"{gain:+.2f}" for gain in gains)
    return f"{statistics.mean(gains):+.2f} points over '{beside.name}' (seed by seed {each})"


def table(arms: list[Arm], column: str) -> list[str]:
    return [
        f"| student | rate | mixup | top-1 | deviation | {column} | CPU s a run |",
        "|---|---:|---:|---:|---:|---|---:|",
        *map(str, arms),
        "",
    ]


def compare(comparison: Comparison, options: argparse.Namespace) -> list[str]:
    teacher = comparison.teach()
    print(teacher, flush=True)
    tried, alone = comparison.choose_alone()
    two_heads, *distilled = comparison.distil(teacher.bundle, options.kinds)
    gains = [f"- {arm.name}: {describe_gain(arm, alone)}" for arm in distilled]
    gains += [f"- {arm.name}: {describe_gain(arm, two_heads)}" for arm in distilled if arm.name != "soft"]
    seeds = ", ".join(map(str, options.seeds))
    return [
        f"## {options.labels or 'All'} labelled images, {options.steps} updates",
        "",
        f"Teacher: {teacher.top1:.2f}, {teacher.weights:,} weights. Student: {alone.runs[0].weights:,}; with two heads "
        f"{two_heads.runs[0].weights:,}.",
        "",
        *table([alone, two_heads, *distilled], f"seeds {seeds}"),
        *gains,
        "",
        f"How the student alone was chosen, with seed {options.seeds[0]}:",
        "",
        *table(tried, f"seed {options.seeds[0]}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, default=200)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=2, help="runs at once")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    spawn = multiprocessing.get_context("spawn")  # a fork would copy torch's threads, half of each
    with tempfile.TemporaryDirectory() as place, ProcessPoolExecutor(options.jobs, spawn) as pool:
        found = compare(Comparison(pool, Path(place), options), options)
    report = [
        "# A small student with and without a teacher",
        "",
        f"`python benchmarks/distillation.py --labels {options.labels} --steps {options.steps} "
        f"--seeds {' '.join(map(str, options.seeds))}`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}, scikit-learn {sklearn.__version__}, "
        f"vitsmith {__version__}, one thread a run, {options.jobs} runs at once; load of the machine at the start: "
        f"{load:.1f}. Top-1 in percent on the held-out images; deviation over the seeds.",
        "",
        *found,
        *["    " + line if line else "" for line in __doc__.splitlines()[4:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
