"""What is a pruned model worth, right after pruning and after its distillation, and is a fresh one as good?

    python benchmarks/pruning.py [--seeds 0 1 2] [--steps 300] [--out FILE.md]

Data: scikit-learn's 1,797 digits, a fifth of each class held out, as the recipe `digits` has them. The model is what
the recipe trains with seed 0. For every share of the arithmetic kept it is pruned by both methods, and by none: the
same number of blocks, heads and hidden units, chosen by lot, their means folded into the biases all the same.

Distillation is `compress.prune.distill` with its own recipe. Beside the pruned models stands a model of the very same
shape with fresh weights, drawn as the recipe `digits` draws them, which learns from the same teacher with the same
updates, the same images and the best of three learning rates, by its score on the held-out images with the first seed:
what the weights that were kept are worth. Scores are those of the last update.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from vitsmith import __version__
from vitsmith.compress.images import TaskImages, labelled_training_images, spread
from vitsmith.compress.prune.distill import recover, recovery_recipe
from vitsmith.compress.prune.importance import DeviceBatches, score_parts
from vitsmith.compress.prune.run import prune_bundle
from vitsmith.compress.prune.sizes import Pruning, describe_sizes, plan_sizes
from vitsmith.compress.prune.slicing import keep_blocks, keep_parts
from vitsmith.data.sets.datasets import open_dataset
from vitsmith.machine import describe_machine
from vitsmith.models.build import ImageModel, build
from vitsmith.models.cost import flops
from vitsmith.runs.run import Run
from vitsmith.training.images.run import train_to_bundle
from vitsmith.training.images.validation import predict_logits
from vitsmith.training.recipes.digits import digits_recipe
from vitsmith.weights.bundle.bundle import Bundle

KEEP = (0.7, 0.5, 0.35, 0.2)
FRESH_RATES = (0.002, 0.004, 0.008)


def top1(model: ImageModel, bundle: Bundle, material: TaskImages) -> float:
    """Percent of the held-out images."""
    answers = predict_logits(model, material.evaluation, bundle.preprocessing)
    return 100 * float((answers.logits.argmax(axis=1) == answers.labels).mean())


def by_lot(bundle: Bundle, material: TaskImages, keep: float, seed: int) -> ImageModel:
    """Pruned to the same sizes, of blocks, heads and units that were drawn."""
    model, config = bundle.model, plan_sizes(bundle.config, Pruning(keep=keep)).config
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(model.config.depth, generator=generator).tolist()
    model = keep_blocks(model, sorted(order[: config.depth]))
    shown = DeviceBatches(spread(material.calibration, 256), bundle, torch.device("cpu"), lambda _: None)
    parts = score_parts(model, shown, "activation")
    for block in parts:
        for one in block.values():
            one.scores = torch.rand(one.scores.shape, generator=generator)
    return keep_parts(model, config, parts)


def fresh(config: Any, seed: int) -> ImageModel:
    """A model of this shape as the recipe `digits` begins."""
    torch.manual_seed(seed)
    model = build(config)
    torch.nn.init.normal_(model.positions.embedding, std=1.0)
    return model


def distilled(model: ImageModel, bundle: Bundle, material: TaskImages, steps: int, seed: int, lr: float) -> float:
    changes = {"schedule": {"steps": steps}, "run": {"seed": seed}, "optimizer": {"lr": lr}}
    student = recover(copy.deepcopy(model), bundle, material, recovery_recipe(bundle, "digits", changes))
    return top1(student, bundle, material)


def show(values: list[float]) -> str:
    return f"{statistics.mean(values):.2f} ({', '.join(f'{value:.2f}' for value in values)})"


def rows_of(bundle: Bundle, material: TaskImages, keep: float, steps: int, seeds: list[int]) -> list[str]:
    """The lines of one share."""
    config = plan_sizes(bundle.config, Pruning(keep=keep)).config
    share = f"{flops(config) / flops(bundle.config):.2f}"
    rows = [f"| {share} | {describe_sizes(bundle.config, config)} | | | |"]
    for method in ("taylor", "activation"):
        model = prune_bundle(bundle, material.calibration, Pruning(keep=keep, method=method))[0].model
        after = [distilled(model, bundle, material, steps, seed, 0.002) for seed in seeds]
        rows.append(f"| | | {method} | {top1(model, bundle, material):.2f} | {show(after)} |")
    drawn = [by_lot(bundle, material, keep, seed) for seed in seeds]
    before = [top1(model, bundle, material) for model in drawn]
    after = [distilled(model, bundle, material, steps, seed, 0.002) for model, seed in zip(drawn, seeds, strict=True)]
    rows.append(f"| | | by lot | {show(before)} | {show(after)} |")
    first = {lr: distilled(fresh(config, seeds[0]), bundle, material, steps, seeds[0], lr) for lr in FRESH_RATES}
    best = max(first, key=lambda lr: first[lr])
    rest = [distilled(fresh(config, seed), bundle, material, steps, seed, best) for seed in seeds[1:]]
    rows.append(f"| | | fresh weights, rate {best:g} | | {show([first[best], *rest])} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, Run("train", "digits", Path(folder) / "digits") as run:
        recipe = digits_recipe(0)
        bundle = train_to_bundle(recipe, open_dataset(recipe.data), run).bundle
        material = labelled_training_images(bundle, "digits")
        lines = [
            "# Pruning, on digits",
            "",
            f"`python benchmarks/pruning.py --steps {asked.steps} --seeds {' '.join(map(str, asked.seeds))}`, "
            f"{datetime.date.today()}, {describe_machine()}, torch {torch.__version__}, vitsmith {__version__}, "
            f"one thread. Top-1 in percent on {len(material.evaluation)} held-out images: mean (each seed).",
            "",
            f"The model: {top1(bundle.model, bundle, material):.2f}.",
            "",
            "| FLOPs kept | sizes | chosen by | right after | after distillation |",
            "|---:|---|---|---|---|",
        ]
        print("\n".join(lines), flush=True)
        for keep in KEEP:
            rows = rows_of(bundle, material, keep, asked.steps, asked.seeds)
            print("\n".join(rows), flush=True)
            lines += rows
    if asked.out:
        asked.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
