"""One training step of ViT-Ti/16 on a CPU: how fast is ours beside timm's and transformers'?

    pip install timm transformers
    python benchmarks/train_step.py [--rounds 15] [--compile] [--keep-memory] [--out benchmarks/results/FILE.md]

224 pixels, batch 16, 1000 classes, random weights and images. A step is zero_grad, forward, cross-entropy, backward and
torch.optim.SGD with momentum 0.9 (or --optimizer adamw); no reading of images. In each round every row makes one step,
in turns, in one process, after two steps to warm up. GELU is tanh in ours and erf in theirs, as each builds its model:
the erf form is the faster one on a CPU.

- fp32: float32 throughout
- bf16: ours as `run.precision = "bf16"` computes (vitsmith.training.update.precision): float32 weights and updates
- autocast: torch.autocast(bfloat16), float32 weights and updates
- pure bf16: weights, gradients and updates in bfloat16 too, which loses small updates: no recipe of theirs does this
- micro 4: the step in four slices of 4 images, gradients added up

CPU seconds are those of all threads together, which other programs on the machine disturb less than the clock. Ratios
are taken within a round; medians and ranges over rounds are shown. A peer's precision is the one of its best median.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from timm_reads_our_npz import stand_in_for_torchvision
from torch import Tensor, nn

import vitsmith as vs
from vitsmith.machine import describe_machine
from vitsmith.training.update.precision import computing_in

BATCH = 16
CLASSES = 1000
Step = Callable[[], None]


@dataclass
class Row:
    """One way to make a step, and what it took in each round."""

    owner: str
    name: str
    step: Step
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def run(self) -> None:
        cpu, clock = time.process_time(), time.perf_counter()
        self.step()
        self.seconds.append(time.perf_counter() - clock)
        self.cpu_seconds.append(time.process_time() - cpu)


def ours() -> nn.Module:
    return vs.create_model("ViT-Ti/16", classes=CLASSES, image_size=224).train()


def transformers_model() -> nn.Module:
    """Before torchvision is stood in for: transformers does without it when it is missing."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=192, num_hidden_layers=12, num_attention_heads=3, intermediate_size=768, num_labels=CLASSES
    )

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = ViTForImageClassification(config)

        def forward(self, images: Tensor) -> Tensor:
            return self.model(pixel_values=images).logits

    return Logits().train()


def timm_model() -> nn.Module:
    if "torchvision" not in sys.modules:
        stand_in_for_torchvision()
    import timm

    return timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES).train()


def make_optimizer(model: nn.Module, name: str) -> torch.optim.Optimizer:
    if name == "adamw":
        return torch.optim.AdamW(model.parameters(), lr=1e-4)
    return torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)


def our_step(model: nn.Module, optimizer: str, precision: Any, data: tuple[Tensor, Tensor], **options: Any) -> Step:
    images, labels = data
    slices, compiled = options.get("slices", 1), options.get("compiled", False)
    call = torch.compile(model) if compiled else model
    updates = make_optimizer(model, optimizer)

    def step() -> None:
        updates.zero_grad()
        with computing_in(model, precision, call=call) as forward:
            for few, theirs in zip(images.chunk(slices), labels.chunk(slices), strict=True):
                (F.cross_entropy(forward(few), theirs) / slices).backward()
        updates.step()

    return step


def their_step(model: nn.Module, optimizer: str, precision: str, data: tuple[Tensor, Tensor]) -> Step:
    images, labels = data
    if precision == "pure bf16":
        model, images = model.bfloat16(), images.bfloat16()
    updates = make_optimizer(model, optimizer)

    def step() -> None:
        updates.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()
        updates.step()

    return step


def make_rows(optimizer: str, *, compiled: bool) -> list[Row]:
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(BATCH, 3, 224, 224, generator=generator), torch.arange(BATCH) * 37 % CLASSES
    rows = [
        Row("vitsmith", "fp32", our_step(ours(), optimizer, "fp32", data)),
        Row("vitsmith", "bf16", our_step(ours(), optimizer, "bf16", data)),
        Row("vitsmith", "bf16, micro 4", our_step(ours(), optimizer, "bf16", data, slices=4)),
    ]
    if compiled:
        rows.append(Row("vitsmith", "bf16, compiled", our_step(ours(), optimizer, "bf16", data, compiled=True)))
    for owner, make in (("transformers", transformers_model), ("timm", timm_model)):
        for precision in ("fp32", "autocast", "pure bf16"):
            rows.append(Row(owner, precision, their_step(make(), optimizer, precision, data)))
    return rows


def ratios(row: Row, to: Row, *, cpu: bool = False) -> list[float]:
    """How many times as fast `row` is as `to`, round by round."""
    pairs = zip(row.cpu_seconds, to.cpu_seconds, strict=True) if cpu else zip(row.seconds, to.seconds, strict=True)
    return [theirs / mine for mine, theirs in pairs]


def spread(values: list[float], form: str = ".2f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def tables(rows: list[Row]) -> list[str]:
    peers = [min((row for row in rows if row.owner == owner), key=lambda row: row.median) for owner in PEERS]
    fastest = min(peers, key=lambda row: row.median)
    lines = ["| | | images/s | CPU seconds a step |", "|---|---|---:|---:|"]
    for row in rows:
        speeds = [BATCH / seconds for seconds in row.seconds]
        lines.append(f"| {row.owner} | {row.name} | {spread(speeds, '.1f')} | {spread(row.cpu_seconds)} |")
    lines += ["", f"The faster peer at its better precision is {fastest.owner}, {fastest.name}.", ""]
    lines += ["| vitsmith | over " + " | over ".join(f"{peer.owner}, {peer.name}" for peer in peers) + " | CPU time |"]
    lines += ["|---|" + "---:|" * (len(peers) + 1)]
    for row in rows:
        if row.owner == "vitsmith":
            cells = [*(spread(ratios(row, peer)) for peer in peers), spread(ratios(row, fastest, cpu=True))]
            lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return [*lines, "", "CPU time is that of the faster peer over ours."]


def keep_memory() -> None:
    """glibc otherwise returns the top of the heap after each free, and each step takes up to 50,000 page faults."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, the highest that it takes


PEERS = ("timm", "transformers")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--compile", action="store_true", help="also ours under torch.compile (needs a C++ compiler)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep-memory", action="store_true", help="glibc keeps freed memory, for every row")
    options = parser.parse_args()
    if options.keep_memory:
        keep_memory()
    rows = make_rows(options.optimizer, compiled=options.compile)
    for row in rows:
        row.step()
        row.step()
    for _ in range(options.rounds):
        for row in rows:
            row.run()
    import timm
    import transformers

    report = [
        "# One training step of ViT-Ti/16",
        "",
        f"`python benchmarks/train_step.py --rounds {options.rounds}{' --compile' if options.compile else ''}"
        f"{' --keep-memory' if options.keep_memory else ''} "
        f"--optimizer {options.optimizer}`, {datetime.date.today()}, {describe_machine()}, "
        f"{torch.get_num_threads()} threads, Python {platform.python_version()}, torch {torch.__version__}, "
        f"timm {timm.__version__}, transformers {transformers.__version__}. Median (lowest to highest) of "
        f"{options.rounds} rounds in turns.",
        "",
        *tables(rows),
        "",
        *["    " + line if line else "" for line in (__doc__ or "").splitlines()[5:]],
    ]
    print("\n".join(report))
    if options.out:
        options.out.write_text("\n".join(report) + "\n")


if __name__ == "__main__":
    main()
