"""Image features on one GPU in bfloat16: answers beside float32, images a second, and the attention kernel taken.

    python benchmarks/gpu_embedding.py [--models DINOv3-B_16 SigLIP2-B_16 CLIP-B_32] [--batch 256] [--out FILE.md]
    python benchmarks/gpu_embedding.py --device cpu --tiny      to see that the script works

Image towers at 224 pixels, random values in every array, images already on the device, in bfloat16. Rows: eager,
compiled (torch.compile, mode max-autotune-no-cudagraphs), and compiled into a CUDA graph (max-autotune) where there is
a GPU. Rows are timed in turns: median (lowest to highest) over --rounds rounds. Every row's features are compared with
eager float32 on 64 images: the lowest cosine, and the largest difference over the largest feature; in bfloat16 the
cosine must be at least 0.999. The attention kernels of one eager call are counted by torch's profiler: one a block, and
one of attention pooling. `of peak` is the share of the datasheet's dense bfloat16 peak, where the device is known (or
of --peak, in TFLOP/s). No model begins after --minutes.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import platform
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from timm_coverage import randomise
from torch import Tensor, nn
from train_step_gpu import PEAKS, forget, seconds

from vitsmith.machine import describe_machine
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.configure import change, configure
from vitsmith.models.cost import flops

MODELS = ("DINOv3-B_16", "SigLIP2-B_16", "CLIP-B_32")
COMPARED = 64
LOWEST_COSINE = 0.999
ATTENTION = "_scaled_dot_product_"
"""Operators of torch that compute attention begin so; `aten::_scaled_dot_product_flash_attention` is one."""


@dataclass
class Row:
    """One way to run the model, in bfloat16."""

    name: str
    run: Callable[[Tensor], Tensor]
    cosine: float = 0.0
    difference: float = 0.0
    seconds: list[float] = field(default_factory=list)


def tower(name: str, device: torch.device, *, tiny: bool) -> nn.Module:
    """The image tower of that name, in float32."""
    config = configure(name)
    image = config.image if isinstance(config, LiTConfig) else config
    assert isinstance(image, ViTConfig)
    model = build(change(image, depth=2, image_size=(64, 64)) if tiny else image)
    randomise(model)
    return model.eval().to(device)


def rows_of(model: nn.Module, device: torch.device) -> list[Row]:
    """In the order of the table."""
    low = copy.deepcopy(model).bfloat16()
    rows = [
        Row("bf16, eager", low),
        Row("bf16, compiled", torch.compile(copy.deepcopy(low), mode="max-autotune-no-cudagraphs")),
    ]
    if device.type == "cuda":
        rows.append(Row("bf16, compiled, CUDA graph", torch.compile(copy.deepcopy(low), mode="max-autotune")))
    return rows


def compare(rows: list[Row], reference: nn.Module, images: Tensor) -> None:
    """Fills in how each row's features differ from those of the float32 model."""
    expected = reference(images[:COMPARED].float()).double()
    for row in rows:
        found = row.run(images)[: len(expected)].double()
        row.cosine = torch.cosine_similarity(found, expected, dim=-1).min().item()
        row.difference = ((found - expected).abs().max() / expected.abs().max()).item()


def attention_kernels(run: Callable[[Tensor], Tensor], images: Tensor) -> str:
    """The kernels of attention that one call takes, as 'flash_attention 12'."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run(images)
    counted: Counter[str] = Counter()
    for event in profile.key_averages():
        _, operator, kernel = event.key.partition(ATTENTION)
        if operator:
            counted[kernel] += event.count
    return ", ".join(f"{kernel} {count}" for kernel, count in counted.items()) or "none of torch's"


def measure(name: str, options: argparse.Namespace, device: torch.device, peak: float) -> list[str]:
    """The lines of one model."""
    model = tower(name, device, tiny=options.tiny)
    config = model.config
    images = torch.randn(options.batch, 3, *config.image_size, device=device, dtype=torch.bfloat16)
    rows = rows_of(model, device)
    with torch.inference_mode():
        compare(rows, model, images)
        kernels = attention_kernels(rows[0].run, images)
        for _ in range(options.rounds):
            for row in rows:
                row.seconds.append(seconds(lambda row=row: row.run(images), options.calls, device))
    lines = []
    for row in rows:
        middle = statistics.median(row.seconds)
        rates = [options.batch / second for second in (middle, max(row.seconds), min(row.seconds))]
        share = f"{flops(config) * options.batch / middle / peak:.1%}" if peak else ""
        verdict = "" if row.cosine >= LOWEST_COSINE else " **too low**"
        lines.append(
            f"| {name} | {row.name} | {rates[0]:,.0f} ({rates[1]:,.0f} to {rates[2]:,.0f}) | {share} "
            f"| {row.cosine:.5f}{verdict} | {row.difference:.1e} | {kernels if row is rows[0] else ''} |"
        )
    return lines


def options_of_command() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=6.0, help="no model begins later than this")
    parser.add_argument("--peak", type=float, default=0.0, help="dense bfloat16 TFLOP/s of the device")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="two blocks at 64 pixels: only to try the script")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.tiny:
        options.batch, options.rounds, options.calls = 4, 2, 1
    return options


def main() -> int:
    options = options_of_command()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            "this needs a CUDA device and a torch built for it; --device cpu --tiny tries the script", file=sys.stderr
        )
        return 2
    began = time.perf_counter()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else describe_machine()
    peak = 1e12 * (options.peak or next((peak for part, peak in PEAKS.items() if part in name), 0))
    report = [
        "# Image features on one GPU",
        "",
        f"`python benchmarks/gpu_embedding.py {' '.join(sys.argv[1:])}`, {datetime.date.today()}, {name}, torch "
        f"{torch.__version__}, Python {platform.python_version()}; batches of {options.batch}.",
        "",
        "| model | | images/s | of peak | lowest cosine | difference | attention kernels of an eager call |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    print("\n".join(report), flush=True)
    for model in options.models:
        if time.perf_counter() - began > 60 * options.minutes:
            lines = [f"| {model} | left out for want of time | | | | | |"]
        else:
            lines = measure(model, options, device, peak)
        report += lines
        print("\n".join(lines), flush=True)
        forget(device)
    report += ["", *("    " + line if line else "" for line in (__doc__ or "").splitlines()[5:])]
    if options.out:
        options.out.write_text("\n".join(report) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
