"""How long does `vitsmith train --recipe digits` take, and how good is what it leaves?

    python benchmarks/digits.py [--seeds 0 1 2] [--out benchmarks/results/FILE.md]

Every seed is a run of the command in a process of its own, from its start to its end: imports, training, every
evaluation, golden images, bundle and report. Top-1 is that of the last evaluation, on 359 held-out digits. CPU seconds
are those of the process and its threads: on a machine with other work they say more than the clock. The bar asked for:
98 % in under 3 minutes on 2 cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from vitsmith.machine import describe_machine


class Trained(NamedTuple):
    """One run of the command."""

    seed: int
    top1: float
    low: float
    high: float
    seconds: float
    cpu_seconds: float


def train(seed: int, folder: Path) -> Trained:
    command = [sys.executable, "-m", "vitsmith", "train", "--recipe", "digits", "--seed", str(seed), "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([*command, "--out", str(folder)], check=True, stdout=subprocess.PIPE, text=True)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    told = json.loads(done.stdout)
    low, high = told["top1_interval"]
    return Trained(seed, 100 * told["top1"], 100 * low, 100 * high, seconds, cpu)


def describe(runs: list[Trained]) -> list[str]:
    lines = ["| seed | top-1 | 95 % interval | wall s | CPU s |", "|---:|---:|---|---:|---:|"]
    lines += [
        f"| {run.seed} | {run.top1:.2f} | {run.low:.1f} to {run.high:.1f} | {run.seconds:.0f} | {run.cpu_seconds:.0f} |"
        for run in runs
    ]
    top1, seconds = [run.top1 for run in runs], [run.seconds for run in runs]
    return [
        *lines,
        "",
        f"Top-1: mean {statistics.mean(top1):.2f}, {min(top1):.2f} to {max(top1):.2f}. "
        f"Wall seconds: median {statistics.median(seconds):.0f}, {min(seconds):.0f} to {max(seconds):.0f}. "
        f"CPU seconds: median {statistics.median(run.cpu_seconds for run in runs):.0f}.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as place:
        runs = [train(seed, Path(place) / str(seed)) for seed in options.seeds]
    report = [
        "# The recipe `digits`",
        "",
        f"`python benchmarks/digits.py --seeds {' '.join(map(str, options.seeds))}`, {datetime.date.today()}, "
        f"{describe_machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"threads of torch: {torch.get_num_threads()}; load of the machine at the start: {load:.1f}. Top-1 in percent.",
        "",
        *describe(runs),
        "",
        *["    " + line if line else "" for line in __doc__.splitlines()[4:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
