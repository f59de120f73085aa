"""Does a small student gain from a teacher, over the same student trained alone, on real images?

    python benchmarks/distillation.py [--labels 200] [--steps 1500] [--kinds soft deit-soft deit-hard] [--out FILE.md]

Data: scikit-learn's 1,797 digits, half of each class held out: 898 images that neither teacher nor student learns from.
Teacher: ViT of width 64 and depth 4 (148 thousand weights), trained on the 899 other digits with their labels.
Student: width 32, depth 2 (24 thousand weights), on the first `--labels` images of these 899, as many of each class;
0 means all of them. The teacher answers for the student's own crops only: it brings no images.

Every student gets the same number of updates, the same crops, batches and schedule. The student alone may choose the
best of three learning rates, with or without mixup, by its score on the held-out images, which is in its favour.
Distilled students have one setting: learning rate 0.1, no mixup, T 3, taken from a first look at shorter runs of 'soft'
on these images. DeiT's kinds have a class token and a distillation token, the others the mean over patches; so DeiT's
stand beside a student of their own form that learns from labels alone ("two heads, labels only"). Three seeds decide
weights, order and crops.
"""

from __future__ import annotations

import argparse
import datetime
import math
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitsmith as vs
from vitsmith.data.batches import Batch
from vitsmith.data.digits import open_digits
from vitsmith.data.samples import Samples, Splits, stratified_split
from vitsmith.evaluate.evaluation import describe_machine
from vitsmith.specs import ImageSpec, Labels
from vitsmith.train.distill import Teacher
from vitsmith.train.losses import DistillLoss, Loss, classification_loss
from vitsmith.train.recipe import DistillSpec
from vitsmith.train.schedule import learning_rate
from vitsmith.weights.bundle import Bundle

SEEDS = (0, 1, 2)
BATCH = 64
SPEC = ImageSpec.original(32)
TEACHER = {"width": 64, "depth": 4, "heads": 4, "mlp_width": 128, "patch": (8, 8), "pooling": "gap"}
STUDENT = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 64, "patch": (8, 8), "pooling": "gap"}
TWO_HEADS = {**STUDENT, "pooling": "token", "distillation_token": True}
TEACHER_STEPS, TEACHER_RATE = 1200, 0.2
RATES, MIXUPS = (0.1, 0.2, 0.4), (0.0, 0.5)
RATE = 0.1
KINDS = {
    "soft": {"temperature": 3.0, "weight": 1.0},
    "deit-soft": {"temperature": 3.0, "weight": 0.5},
    "deit-hard": {"weight": 0.5},
}


def open_halves() -> Splits:
    """The digits, half of each class held out."""
    splits = open_digits()
    parts = (splits.train, splits.val)
    everything = Samples(
        splits.classes,
        [source for part in parts for source in part.sources],
        [name for part in parts for name in part.names],
        np.concatenate([part.labels for part in parts]),
    )
    return stratified_split(everything, seed=0, fraction=0.5)


def tensors(samples: Samples) -> tuple[Tensor, Tensor]:
    pixels = np.stack([samples.image(index) for index in range(len(samples))])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(samples.labels)


def first_of_each(labels: Tensor, count: int) -> Tensor:
    """Indices of the first `count` images, as many of each class; of all for 0."""
    if not count:
        return torch.arange(len(labels))
    return torch.cat([torch.nonzero(labels == digit)[: count // 10, 0] for digit in range(10)])


def crops(images: Tensor, random: torch.Generator) -> Tensor:
    """Boxes of 0.6 to 1 of the area and an aspect of 0.8 to 1.25, resized to the whole."""
    count = len(images)
    area, aspect, down, across = torch.rand(4, count, generator=random)
    area, aspect = 0.6 + 0.4 * area, torch.exp((2 * aspect - 1) * math.log(1.25))
    height, width = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    boxes = torch.zeros(count, 2, 3)
    boxes[:, 0, 0], boxes[:, 1, 1] = width, height
    boxes[:, 0, 2], boxes[:, 1, 2] = (2 * across - 1) * (1 - width), (2 * down - 1) * (1 - height)
    grid = F.affine_grid(boxes, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def mixed(batch: Batch, alpha: float, random: np.random.Generator) -> Batch:
    """mixup, arXiv 1710.09412."""
    share, order = random.beta(alpha, alpha), torch.from_numpy(random.permutation(len(batch.labels)))
    labels = F.one_hot(batch.labels, 10).float()
    return Batch(*(share * part + (1 - share) * part[order] for part in (batch.images, labels)))


def train(
    config: dict[str, object],
    data: tuple[Tensor, Tensor],
    loss: Loss,
    *,
    seed: int,
    steps: int,
    rate: float,
    mixup: float = 0.0,
) -> nn.Module:
    torch.manual_seed(seed)
    model = vs.create_model("ViT-Ti_16", classes=10, image_size=32, **config)
    nn.init.normal_(model.positions.embedding, std=1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    random, order = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    for step in range(steps):
        chosen = torch.from_numpy(order.permutation(len(data[1]))[:BATCH])
        batch = Batch(crops(data[0][chosen], random), data[1][chosen])
        if mixup:
            batch = mixed(batch, mixup, order)
        optimizer.zero_grad()
        loss(model(batch.images), batch).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        now = learning_rate(step, base=rate, steps=steps, warmup_steps=steps // 10, decay="cosine")
        optimizer.param_groups[0]["lr"] = now
        optimizer.step()
    return model.eval()


@torch.inference_mode()
def top1(model: nn.Module, data: tuple[Tensor, Tensor]) -> float:
    return 100 * float((model(data[0]).argmax(dim=1) == data[1]).float().mean())


class Arms:
    """Students of one kind each, over all seeds, and their scores."""

    def __init__(self, data: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor], steps: int) -> None:
        self._data, self._held_out, self._steps = data, held_out, steps
        self.rows: list[str] = []

    def add(self, name: str, config: dict[str, object], loss: Loss, rate: float, mixup: float = 0.0) -> list[float]:
        began = time.perf_counter()
        scores = [
            top1(train(config, self._data, loss, seed=seed, steps=self._steps, rate=rate, mixup=mixup), self._held_out)
            for seed in SEEDS
        ]
        seconds = (time.perf_counter() - began) / len(SEEDS)
        each = ", ".join(f"{score:.2f}" for score in scores)
        self.rows.append(
            f"| {name} | {rate:g} | {mixup:g} | {statistics.mean(scores):.2f} | {statistics.stdev(scores):.2f} "
            f"| {each} | {seconds:.0f} |"
        )
        print(self.rows[-1], flush=True)
        return scores


def compare(labels: int, steps: int, kinds: list[str]) -> str:
    splits = open_halves()
    everything, held_out = tensors(splits.train), tensors(splits.val)
    chosen = first_of_each(everything[1], labels)
    data = everything[0][chosen], everything[1][chosen]
    model = train(TEACHER, everything, classification_loss, seed=0, steps=TEACHER_STEPS, rate=TEACHER_RATE)
    bundle = Bundle.of(model, images=SPEC, labels=Labels(names=splits.classes))
    teacher_score = top1(model, held_out)
    print(f"teacher {teacher_score:.2f}", flush=True)
    arms = Arms(data, held_out, steps)
    alone = [arms.add("alone", STUDENT, classification_loss, rate, mix) for mix in MIXUPS for rate in RATES]
    best = max(alone, key=statistics.mean)
    if any(kind.startswith("deit") for kind in kinds):
        arms.add("two heads, labels only", TWO_HEADS, classification_loss, RATE)
    gains = []
    for kind in kinds:
        loss = DistillLoss(Teacher(bundle, splits.classes, SPEC), DistillSpec(teacher="", kind=kind, **KINDS[kind]))
        scores = arms.add(kind, STUDENT if kind == "soft" else TWO_HEADS, loss, RATE)
        gain = statistics.mean(scores) - statistics.mean(best)
        beside = ", ".join(f"{ours - theirs:+.2f}" for ours, theirs in zip(scores, best, strict=True))
        gains.append(f"- {kind}: {gain:+.2f} points over the best student alone (seed by seed {beside})")
    heading = [
        f"## {len(chosen)} labelled images, {steps} updates",
        "",
        f"Teacher: {teacher_score:.2f}.",
        "",
        "| student | rate | mixup | top-1 | deviation | seeds 0, 1, 2 | seconds a run |",
        "|---|---:|---:|---:|---:|---|---:|",
    ]
    return "\n".join([*heading, *arms.rows, "", *gains, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--labels", type=int, nargs="+", default=[200])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    parts = [compare(labels, options.steps, options.kinds) for labels in options.labels]
    command = f"--labels {' '.join(map(str, options.labels))} --steps {options.steps}"
    report = [
        "# A small student with and without a teacher",
        "",
        f"`python benchmarks/distillation.py {command}`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}. Top-1 in percent on the held-out images; "
        "deviation over the seeds.",
        "",
        *parts,
        *["    " + line for line in __doc__.splitlines()[4:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
