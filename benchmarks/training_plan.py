"""How near `train --plan` comes to the run: its memory, its time, and its checkpoints.

    python benchmarks/training_plan.py [--out benchmarks/results/FILE.md]

For each case `vitsmith train ... --plan --json` and then the same command without --plan, each a fresh process. Time is
that of updates and evaluations, which metrics.jsonl has; memory the peak of resident memory of the whole run, with
everything that the plan does not count (the report is made after training and may take more); a checkpoint is the size
of its file, copied while the run goes on.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from vitsmith.machine import describe_machine

CASES: dict[str, tuple[str, ...]] = {
    "digits, 300 updates": ("digits", "--recipe", "digits", "--steps", "300", "--set", "run.checkpoint_every=50"),
    "ViT-Ti/16, 96 pixels": (
        "digits", "--arch", "ViT-Ti/16", "--image-size", "96", "--batch-size", "64", "--steps", "20",
        "--set", "schedule.warmup=2", "--set", "run.checkpoint_every=6",
    ),
    "the same, checkpointing": (
        "digits", "--arch", "ViT-Ti/16", "--image-size", "96", "--batch-size", "64", "--steps", "12",
        "--set", "schedule.warmup=2", "--set", "batch.checkpointing=on",
    ),
    "ViT-S/16, AdamW, running mean": (
        "digits", "--arch", "ViT-S/16", "--image-size", "64", "--batch-size", "32", "--steps", "20",
        "--set", "schedule.warmup=2", "--set", "optimizer.name=adamw", "--set", "optimizer.lr=0.001",
        "--set", "optimizer.ema=0.9", "--set", "run.checkpoint_every=5",
    ),
}  # fmt: skip


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "vitsmith", "train", *arguments]


def planned(arguments: tuple[str, ...]) -> dict:
    done = subprocess.run(command(*arguments, "--plan", "--json"), capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def run(arguments: tuple[str, ...], folder: Path) -> tuple[float, int, int]:
    """(seconds of updates and evaluations, peak bytes until the bundle, bytes of the largest checkpoint)."""
    process = subprocess.Popen(
        command(*arguments, "--out", str(folder)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    peak = checkpoint = 0
    while process.poll() is None:
        for file in folder.glob("checkpoints/step-*/state.safetensors"):
            try:
                checkpoint = max(checkpoint, file.stat().st_size)
            except OSError:
                continue
        if not (folder / "model").exists():
            peak = max(peak, resident_peak(process.pid))
        time.sleep(0.05)
    if process.returncode:
        raise RuntimeError(f"vitsmith train {' '.join(arguments)} ended with {process.returncode}")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    batch = json.loads((folder / "recipe.json").read_text())["batch"]["size"]
    seconds = sum(batch / row["images_per_second"] for row in rows if row["event"] == "step")
    return seconds + sum(row["seconds"] for row in rows if row["event"] == "evaluation"), peak, checkpoint


def resident_peak(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import torch

    lines = [
        "# The plan of a training run and the run",
        "",
        f"`python benchmarks/training_plan.py`, {datetime.date.today()}, {describe_machine()}, torch "
        f"{torch.__version__}, load {os.getloadavg()[0]:.1f} at the start. MB are 10^6 bytes.",
        "",
        "| run | memory: plan | run | off | seconds: plan (interval) | run | off | in | checkpoint: plan | file |",
        "|---|---:|---:|---:|---:|---:|---:|---|---:|---:|",
    ]
    for name, arguments in CASES.items():
        plan = planned(arguments)
        with tempfile.TemporaryDirectory() as place:
            seconds, peak, checkpoint = run(arguments, Path(place) / "run")
        said, told = plan["memory"]["predicted"], plan["run"]
        low, high = told["interval"]
        lines.append(
            f"| {name} | {said / 1e6:.0f} MB | {peak / 1e6:.0f} MB | {said / peak - 1:+.1%} | {told['seconds']:.1f} "
            f"({low:.1f} to {high:.1f}) | {seconds:.1f} | {told['seconds'] / seconds - 1:+.1%} | "
            f"{'yes' if low <= seconds <= high else 'no'} | {plan['disk']['checkpoint'] / 1e6:.2f} MB | "
            f"{checkpoint / 1e6:.2f} MB |"
        )
        print(lines[-1], flush=True)
    lines += ["", *["    " + line for line in __doc__.splitlines()[4:]]]
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
