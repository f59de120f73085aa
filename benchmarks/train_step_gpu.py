"""Training on one GPU: images a second, and what share of the device's peak that is.

    python benchmarks/train_step_gpu.py [--models ViT-B/16 ViT-L/16 ViT-H/14] [--compile both] [--out FILE.md]
    python benchmarks/train_step_gpu.py --device cpu --tiny      to see that the script works

224 pixels, 1000 classes, random weights, images already on the device. A step is what `vitsmith train` does with
`run.precision = "bf16"`: forward and backward in bfloat16 over float32 weights (vitsmith.training.update.precision),
gradients of all micro-batches added up, clipping, SGD with momentum. Micro-batch, accumulation and activation
checkpointing are those that `vitsmith.training.memory.plan.plan_memory` chooses for a batch of --batch images; when
memory runs out all the same, the micro-batch is halved and the table says so.

Operations are the model's own: three times those of the forward pass (vitsmith.models.cost), whether activations are
computed twice or not. `of peak` is their share of the datasheet's dense bfloat16 peak, where the device is known (or of
--peak, in TFLOP/s); `of product` of what one product of 8192 x 8192 matrices reaches here, measured before each model.
Median (lowest to highest) over --rounds rounds of --steps steps, after two rounds to warm up.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

import vitsmith as vs
from vitsmith.machine import describe_machine
from vitsmith.models.configure import configure
from vitsmith.models.cost import flops
from vitsmith.training.learner import recompute_blocks
from vitsmith.training.memory.plan import is_out_of_memory, plan_memory
from vitsmith.training.recipes.recipe import TrainRecipe
from vitsmith.training.update.optimizer import MomentumSGD, clip_by_global_norm
from vitsmith.training.update.precision import computing_in

CLASSES = 1000
MODELS = ("ViT-B/16", "ViT-L/16", "ViT-H/14")
TINY = ("ViT-mu/16",)

PEAKS = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "RTX 4090": 165}
"""Dense bfloat16 TFLOP/s by what the device's name contains, first match; NVIDIA's datasheets, sparsity left out."""


@dataclass(frozen=True)
class Case:
    """One row: a model, and how its steps are computed."""

    model: str
    image_size: int
    micro: int
    accumulate: int
    checkpointing: bool
    compiled: bool


def plan(name: str, image_size: int, batch: int, device: torch.device) -> tuple[int, int, bool]:
    """(micro-batch, accumulation, checkpointing) of `vitsmith train`."""
    recipe = TrainRecipe.model_validate(
        {
            "data": {"path": "digits"},  # of no consequence here
            "model": {"name": name, "image_size": image_size},
            "batch": {"size": batch},
            "run": {"precision": "bf16"},
        }
    )
    config = configure(name, classes=CLASSES, image_size=image_size)
    chosen = plan_memory(config, recipe, device=device, built=False)
    return chosen.micro, chosen.accumulate, chosen.checkpointing


def make_step(case: Case, device: torch.device) -> Callable[[], None]:
    torch.manual_seed(0)
    model = vs.create_model(case.model, classes=CLASSES, image_size=case.image_size).to(device).train()
    if case.checkpointing:
        recompute_blocks(model)
    if case.compiled:
        model.compile()
    optimizer = MomentumSGD(model.parameters(), lr=1e-3)
    images = torch.randn(case.micro, 3, case.image_size, case.image_size, device=device)
    labels = torch.randint(CLASSES, (case.micro,), device=device)

    def step() -> None:
        optimizer.zero_grad()
        with computing_in(model, "bf16") as forward:
            for _ in range(case.accumulate):
                (F.cross_entropy(forward(images), labels) / case.accumulate).backward()
        clip_by_global_norm(model.parameters(), 1.0)
        optimizer.step()

    return step


def seconds(run: Callable[[], object], times: int, device: torch.device) -> float:
    """For one of `times` calls, until the device has finished."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(times):
        run()
    _wait(device)
    return (time.perf_counter() - began) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_speed(device: torch.device, size: int) -> float:
    """FLOP/s of one product in bfloat16, the best of five tries."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    result = torch.empty_like(left)
    return 2 * size**3 / min(seconds(lambda: torch.mm(left, right, out=result), 5, device) for _ in range(6))


def measure(case: Case, device: torch.device, *, rounds: int, steps: int) -> tuple[Case, list[float], float]:
    """(the case as it ran, images a second of each round, GiB at the peak)."""
    while True:
        try:
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            step = make_step(case, device)
            times = [seconds(step, steps, device) for _ in range(rounds + 2)][2:]
            break
        except RuntimeError as error:
            if not is_out_of_memory(error) or case.micro == 1:
                raise
        step = None
        forget(device)
        case = Case(
            case.model, case.image_size, case.micro // 2, case.accumulate * 2, case.checkpointing, case.compiled
        )
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan")
    return case, [case.micro * case.accumulate / time for time in times], peak


def forget(device: torch.device) -> None:
    """Gives the memory of the last case back."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def row(case: Case, planned: Case, speeds: list[float], gib: float, product: float, peak: float | None) -> str:
    config = configure(case.model, classes=CLASSES, image_size=case.image_size)
    rate = 3 * flops(config) * statistics.median(speeds)
    micro = f"{case.micro} x {case.accumulate}" + (f", planned {planned.micro}" if case != planned else "")
    cells = [
        case.model,
        micro,
        "on" if case.checkpointing else "off",
        "on" if case.compiled else "off",
        f"{statistics.median(speeds):.1f} ({min(speeds):.1f} to {max(speeds):.1f})",
        f"{rate / 1e12:.1f}",
        f"{rate / peak / 1e12:.0%}" if peak else "",
        f"{rate / product:.0%}",
        f"{gib:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def options_of_command() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="the smallest model, few steps: only to try the script")
    parser.add_argument("--compile", choices=("off", "on", "both"), default="both")
    parser.add_argument("--batch", type=int, help="images an update; default 1024, tiny: 8")
    parser.add_argument("--steps", type=int, help="in a round; default 5, tiny: 2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", type=float, help="the device's peak in TFLOP/s")
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def main() -> int:
    options = options_of_command()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print(
            "this needs a CUDA device and a torch built for it; --device cpu --tiny tries the script", file=sys.stderr
        )
        return 2
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else describe_machine()
    peak = options.peak or next((peak for part, peak in PEAKS.items() if part in name), None)
    image_size, size = (32, 256) if options.tiny else (224, 8192)
    batch, steps = options.batch or (8 if options.tiny else 1024), options.steps or (2 if options.tiny else 5)
    report = [
        "# Training on one device",
        "",
        f"`python {' '.join(sys.argv)}`, {datetime.date.today()}, {name}, Python {platform.python_version()}, "
        f"torch {torch.__version__}. Peak taken as {f'{peak:g} TFLOP/s' if peak else 'unknown'}.",
        "",
        "| model | micro-batch | checkpointing | compile | images/s | model TFLOP/s | of peak | of product | GiB |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    print("\n".join(report), flush=True)
    for model in options.models or (TINY if options.tiny else MODELS):
        for compiled in {"off": (False,), "on": (True,), "both": (False, True)}[options.compile]:
            forget(device)
            product = product_speed(device, size)
            forget(device)
            planned = Case(model, image_size, *plan(model, image_size, batch, device), compiled)
            case, speeds, gib = measure(planned, device, rounds=options.rounds, steps=steps)
            report.append(row(case, planned, speeds, gib, product, peak))
            print(report[-1], flush=True)
    report += ["", *("    " + line if line else "" for line in (__doc__ or "").splitlines()[5:])]
    if options.out:
        options.out.write_text("\n".join(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
