"""A probe on frozen features beside full training of the same tower, in the same time, on three real data sets.

    pip install 'vitsmith[all]' scikit-image
    python benchmarks/probe_against_training.py [--seeds 0 1 2] [--times 1 5] [--tiny] [--out FILE.md]

Towers: two ViTs of width 64 and depth 4 (patch 8, 64 pixels), trained here: `photos` on crops of 11 photos of
scikit-image and scikit-learn (group A of benchmarks/made_here.py), `shapes` on vitsmith's drawn shapes. Both are
written as .npz, served by a hub on this machine as the tests have it, and loaded from there as hf:lab/NAME/model.npz.

Data: `digits`, 1,797 of scikit-learn; `faces`, the 200 pictures of skimage.data.lfw_subset, faces and others, a fifth
of each class held out by the seed; `crops`, 9 other photos (group B) with 12 training and 40 held-out crops each, cut
from the left and the right part of a photo. No pixel region is on both sides of a split; equal pictures are left out.

Time: that of `vs.probe` with an empty cache, from loading the tower to the bundle on disk. Training has that time, and
multiples of it, from loading the tower to its score: as many updates of 32 images as fit, which trial runs find. Its
learning rate is the best of three for each data set, tower and time, by the mean over the seeds on the held-out images,
in favour of training; the probe chooses everything on its training images.
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
from typing import Any, NamedTuple

import torch
from made_here import (
    CONFIG,
    FRESH,
    GROUP_A,
    GROUP_B,
    PLAIN,
    QUIET,
    HubServer,
    hub,
    train,
    write_crops,
    write_faces,
)

import vitsmith as vs
from vitsmith.machine import describe_machine

RATES = (0.0003, 0.001, 0.003)
TOWERS = ("photos", "shapes")
TRIALS = 4
"""Most runs that find how many updates fit into a time."""


class Row(NamedTuple):
    """One data set and tower: the probe, and training for each multiple of its time."""

    data: str
    tower: str
    probe: list[float]
    seconds: list[float]
    training: dict[float, tuple[float, int, list[float], list[float]]]
    """By multiple: learning rate, updates, top-1 of each seed, seconds of each."""


def make_towers(place: Path, server: HubServer, steps: int) -> list[str]:
    """Trains both towers and puts them on the hub. Returns what was reached."""
    data = {"photos": str(write_crops(place / "a", GROUP_A, 100, 20)), "shapes": "shapes"}
    told = []
    for name in TOWERS:
        schedule = {"schedule": {"steps": steps, "warmup": steps // 10}, "optimizer": {"lr": 0.001}}
        run = train(Path(data[name]), place / "towers" / name, PLAIN, QUIET, FRESH, schedule, {"run": {"seed": 0}})
        vs.save(run.trained.bundle, place / f"{name}.npz", format="npz")
        server.add(f"lab/{name}", {"model.npz": (place / f"{name}.npz").read_bytes()})
        told.append(f"{name}: {steps} updates, {run.top1:.1f} % of its own held-out images, {run.seconds:.0f} s")
    return told


def compare(place: Path, data: str, name: str, tower: str, options: argparse.Namespace) -> Row:
    """The probe, then training in multiples of its time."""
    source, probes, seconds = f"hf:lab/{tower}/model.npz", [], []
    for seed in options.seeds:
        began = time.perf_counter()
        probed = vs.probe(data, source, place / "probes" / f"{name}-{tower}-{seed}", seed=seed, cache=False)
        seconds.append(time.perf_counter() - began)
        score = probed.best.score("logistic")
        assert score is not None
        probes.append(100 * score.accuracy)
    training = {}
    for multiple in options.times:
        steps = _fitting_steps(place, data, source, multiple * statistics.median(seconds))
        arms = {lr: [_train(place, data, source, steps, lr, seed) for seed in options.seeds] for lr in options.rates}
        best = max(arms, key=lambda lr: statistics.mean(top1 for top1, _ in arms[lr]))
        training[multiple] = best, steps, [top1 for top1, _ in arms[best]], [spent for _, spent in arms[best]]
    return Row(name, tower, probes, seconds, training)


def _train(place: Path, data: str, source: str, steps: int, lr: float, seed: int) -> tuple[float, float]:
    """Top-1 in percent after training all weights, and the seconds of the run."""
    recipe: dict[str, Any] = {
        "model": {"init": source},
        "schedule": {"steps": steps, "warmup": min(steps // 10, 100)},
        "optimizer": {"lr": lr},
        "run": {"seed": seed, "baseline": False},
    }
    with tempfile.TemporaryDirectory(dir=place) as out:
        run = train(Path(data), Path(out) / "run", PLAIN, QUIET, recipe)
    return run.top1, run.seconds


def _fitting_steps(place: Path, data: str, source: str, seconds: float) -> int:
    """The updates of a run that takes about so long as a whole; 1 where loading alone takes longer."""
    steps = 20
    for _ in range(TRIALS):
        spent = _train(place, data, source, steps, RATES[1], 0)[1]
        if abs(spent - seconds) < seconds / 10:
            break
        steps = max(round(steps * seconds / spent), 1)
    return steps


def table(rows: list[Row], times: list[float]) -> list[str]:
    """Means over the seeds, with each seed's numbers."""
    heads = [f"training, {multiple:g}x the time" for multiple in times]
    lines = ["| " + " | ".join(("data", "tower", "probe, top-1", "probe, s", *heads)) + " |"]
    lines.append("|---|---|---:|---:|" + "---:|" * len(heads))
    for row in rows:
        cells = [row.data, row.tower, _each(row.probe), f"{statistics.median(row.seconds):.1f}"]
        for multiple in times:
            lr, steps, top1, seconds = row.training[multiple]
            cells.append(f"{_each(top1)}, {steps} updates at {lr:g}, {statistics.median(seconds):.1f} s")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _each(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({', '.join(f'{value:.1f}' for value in values)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--times", type=float, nargs="+", default=[1, 5], help="multiples of the probe's time")
    parser.add_argument(
        "--tiny", action="store_true", help="a few updates, to try the script; its numbers mean nothing"
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.rates = RATES[1:2] if options.tiny else RATES
    began, load = time.perf_counter(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, hub(Path(folder)) as server:
        place = Path(folder)
        towers = make_towers(place, server, 20 if options.tiny else 600)
        sets = {
            "crops": str(write_crops(place / "b", GROUP_B, 12, 40)),
            "faces": str(write_faces(place / "faces")),
            "digits": "digits",
        }
        names = [one for one in sets if not (options.tiny and one == "digits")]
        rows = []
        for name in names:
            for tower in TOWERS:
                rows.append(compare(place, sets[name], name, tower, options))
                print(table(rows[-1:], options.times)[-1], flush=True)
    command = " ".join(["python benchmarks/probe_against_training.py", *(["--tiny"] if options.tiny else [])])
    command += f" --seeds {' '.join(map(str, options.seeds))} --times {' '.join(f'{one:g}' for one in options.times)}"
    report = [
        "# A probe on frozen features beside full training in the same time",
        "",
        f"`{command}`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__} (threads: {torch.get_num_threads()}); load of "
        f"the machine at the start: {load:.1f}; {time.perf_counter() - began:.0f} s in all. Top-1 in percent of "
        f"held-out images: the mean, and each seed. Towers of width {CONFIG['width']}: {'; '.join(towers)}.",
        "",
        *table(rows, options.times),
        "",
        *["    " + line if line else "" for line in __doc__.splitlines()[5:]],
    ]
    text = "\n".join(report) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
