"""How near the memory plan comes to what training takes on a CPU.

    python benchmarks/training_memory.py [--out benchmarks/results/FILE.md] [--compact] [--only N ...]

Each case is a fresh process that asks for a plan, builds the model, makes three updates of two micro-batches on random
images with the functions that training uses, and reads its peak of resident memory (VmHWM of /proc/self/status).
malloc is as training has it: with checkpointing it gives freed arrays back at once (`give_back_freed_memory`); with
--compact in all cases. The part of the plan that is
for images read ahead is replaced by the images that there are.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

STEPS = 3
CASES: tuple[tuple[str, int, str, str, str], ...] = (  # model, micro-batch, precision, optimizer, checkpointing
    ("ViT-Ti/16", 32, "fp32", "sgd", "off"),
    ("ViT-Ti/16", 32, "fp32", "sgd", "on"),
    ("ViT-S/16", 16, "fp32", "sgd", "off"),
    ("ViT-B/16", 8, "fp32", "adamw", "off"),
    ("Mixer-B/16", 8, "fp32", "sgd", "off"),
    ("ViT-Ti/16", 32, "bf16", "sgd", "off"),
    ("ViT-B/16", 8, "bf16", "adamw", "on"),
)


def child(name: str, micro: int, precision: str, optimizer: str, checkpointing: str, compact: bool) -> dict[str, float]:
    import torch

    from vitsmith.data.batches.loader import Batch
    from vitsmith.models.build import build
    from vitsmith.models.configure import configure
    from vitsmith.training.devices import Devices
    from vitsmith.training.learner import Learner
    from vitsmith.training.memory.plan import give_back_freed_memory, plan_memory
    from vitsmith.training.recipes.recipe import DataSpec, TrainRecipe
    from vitsmith.training.step import apply_gradients, compute_gradients
    from vitsmith.training.update.losses import classification_loss

    if compact:
        give_back_freed_memory()
    config = configure(name)
    recipe = TrainRecipe.model_validate(
        {
            "data": DataSpec.model_construct(),
            "model": {"name": name},
            "batch": {"size": 2 * micro, "micro": micro, "checkpointing": checkpointing},
            "optimizer": {"name": optimizer},
            "run": {"precision": precision},
        }
    )
    devices = Devices(torch.device("cpu"))
    began = time.perf_counter()
    plan = plan_memory(config, recipe, device=devices.device, built=False)
    seconds = time.perf_counter() - began
    model = build(config)
    learner = Learner.of(model, recipe, classification_loss, devices, checkpointing=plan.checkpointing)
    labels = torch.zeros(micro, dtype=torch.int64)
    slices = [Batch(torch.randn(micro, 3, *config.image_size), labels) for _ in range(2)]
    Path("/proc/self/clear_refs").write_text("5") if os.access("/proc/self/clear_refs", os.W_OK) else None
    cpu = time.process_time()
    for step in range(STEPS):
        compute_gradients(learner, slices, recipe, step, devices)
        apply_gradients(learner, recipe, step)
    cpu = time.process_time() - cpu
    lines = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    parts = {**dict(plan.parts), "images read ahead": sum(one.images.nbytes for one in slices)}
    return {"predicted": sum(parts.values()), "measured": peak, "planning": seconds, "cpu": cpu / STEPS, **parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--compact", action="store_true", help="freed arrays go back at once in all cases")
    parser.add_argument("--only", type=int, nargs="*", default=range(len(CASES)))
    parser.add_argument("--child", type=int)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(child(*CASES[options.child], compact=options.compact)))
        return
    import torch

    from vitsmith.machine import describe_machine

    lines = [
        "# Predicted and measured memory of training",
        "",
        f"`python benchmarks/training_memory.py{' --compact' if options.compact else ''}`, {datetime.date.today()}, "
        f"{describe_machine()}, {' '.join(platform.libc_ver())}, torch {torch.__version__}. MiB; two micro-batches.",
        "",
        "| model | micro | precision | optimizer | checkpointing | predicted | measured | off | CPU s | plan s |",
        "|---|---:|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for number in options.only:
        command = [sys.executable, __file__, "--child", str(number), *(["--compact"] if options.compact else [])]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        predicted, measured = answer["predicted"], answer["measured"]
        case = " | ".join(str(field) for field in CASES[number])
        lines.append(
            f"| {case} | {predicted / 2**20:.0f} | {measured / 2**20:.0f} | **{predicted / measured - 1:+.1%}** "
            f"| {answer['cpu']:.1f} | {answer['planning']:.1f} |"
        )
        print(lines[-1], flush=True)
    lines += ["", *["    " + line for line in __doc__.splitlines()[4:]]]
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
