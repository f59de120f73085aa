"""An index that follows its photos: `embed --sync` with 1 % changed, beside embedding all anew.

    python benchmarks/index_sync.py [--images 100000] [--share 0.01] [--rounds 3] [--model ViT-Ti_16]
        [--image-size 64] [--out FILE.md]

So many small JPEG files (64 x 64, all different) are written to a temporary folder, 1,000 in each subfolder
(`--place` says where), and embedded with a model with random weights. It takes images of --image-size pixels: the
smaller the model's work, the less a sync saves.

- anew: all of them into a new index
- nothing changed: `--sync` of that index
- some changed: `--sync` after a share of the files was rewritten, in equal parts new, changed, moved and removed

Each is a command of its own, `python -m vitsmith embed`, so that its start, with torch and the model, counts too; and
the time inside it without that start (`work`) is told beside it. Files are older than two seconds when they are
embedded. After each sync the index is compared with one made anew from the same files: every file must have the same
vector. How many files a sync opens is counted in one more run of it, in a child process with a hook on `open`.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import vitsmith as vs
from vitsmith.machine import describe_machine
from vitsmith.retrieval.index import Index, open_index

SIDE, IN_A_FOLDER = 64, 1000

_COUNTED = """
import json, sys, time
opened = set()
sys.addaudithook(lambda event, args: event == "open" and str(args[0]).endswith(".jpg") and opened.add(str(args[0])))
import torch, vitsmith as vs
encoder = vs.Encoder(sys.argv[1], num_images=0)
names = json.load(open(sys.argv[4]))
began = time.perf_counter()
found = []
vs.write_index(encoder, names, sys.argv[2], sync=sys.argv[3] == "sync", options=vs.IndexOptions(on_synced=found.append))
print(json.dumps({"work": time.perf_counter() - began, "opened": len(opened),
                  "counts": found[0].counts if found else {}}))
"""


def write_photo(path: Path, seed: int) -> None:
    """A small picture that no other seed gives: a smooth one, as photos are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path, quality=90)


def place_of(photos: Path, number: int) -> Path:
    return photos / f"{number // IN_A_FOLDER:04d}" / f"{number:07d}.jpg"


def change(photos: Path, count: int, share: float, round_: int) -> int:
    """Change a share of the files: a quarter each is new, rewritten, moved and removed. Returns how many."""
    there = sorted(photos.rglob("*.jpg"))
    each = max(1, round(count * share / 4))
    chosen = np.random.default_rng(round_).choice(len(there), 3 * each, replace=False)
    seed = 10_000_000 * (round_ + 1)
    for number, at in enumerate(chosen[:each].tolist()):
        write_photo(there[at], seed + number)
    for at in chosen[each : 2 * each].tolist():
        there[at].rename(there[at].with_name(f"moved-{round_}-{there[at].name}"))
    for at in chosen[2 * each :].tolist():
        there[at].unlink()
    for number in range(each):
        write_photo(photos / "new" / f"{round_}-{number}.jpg", seed + each + number)
    return 4 * each


def embed(model: Path, photos: Path, out: Path, *options: str) -> float:
    """Seconds of a command."""
    command = [sys.executable, "-m", "vitsmith", "embed", str(model), str(photos), "--out", str(out), "--json"]
    began = time.perf_counter()
    subprocess.run([*command, *options], check=True, capture_output=True)
    return time.perf_counter() - began


def worked(model: Path, photos: Path, out: Path, how: str) -> dict[str, Any]:
    """Seconds without the start, files opened and what a sync found."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as names:
        json.dump(sorted(map(str, photos.rglob("*.jpg"))), names)
        names.flush()
        answer = subprocess.run(
            [sys.executable, "-c", _COUNTED, str(model), str(out), how, names.name], check=True, capture_output=True
        )
    found: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return found


def files_of(index: Index) -> dict[str, int]:
    """File -> position of its row, copies too."""
    rows = range(len(index))
    named = zip(index.ids(rows), index.copies(rows), strict=True)
    return {name: at for at, (own, copies) in enumerate(named) for name in (own, *copies)}


def compare(synced: Index, anew: Index) -> None:
    """Stop unless both give every file the same vector."""
    places = [files_of(index) for index in (synced, anew)]
    if places[0].keys() != places[1].keys():
        raise SystemExit("the synced index holds other files than one made anew")
    names = sorted(places[0])
    one, other = (
        index.rows([place[name] for name in names]).astype(np.float32)
        for index, place in zip((synced, anew), places, strict=True)
    )
    if (least := float((one * other).sum(axis=1).min())) < 0.999:
        raise SystemExit(f"a file has another vector in the synced index (cosine {least:.4f})")


def measure(options: argparse.Namespace, place: Path) -> tuple[dict[str, list[float]], dict[str, Any]]:
    photos, model = place / "photos", place / "model"
    for number in range(options.images):
        write_photo(place_of(photos, number), number)
    vs.save(vs.Bundle.of(vs.create_model(options.model, image_size=options.image_size)), model)
    time.sleep(2.5)
    times: dict[str, list[float]] = {"anew": [], "nothing changed": [], "some changed": []}
    facts: dict[str, Any] = {}
    for number in range(options.rounds):
        index, again = place / f"index-{number}", place / f"again-{number}"
        times["anew"].append(embed(model, photos, index))
        times["nothing changed"].append(embed(model, photos, index, "--sync"))
        facts["changed"] = change(photos, options.images, options.share, number)
        time.sleep(2.5)
        shutil.copytree(index, again)
        times["some changed"].append(embed(model, photos, index, "--sync"))
        facts["anew"] = worked(model, photos, place / "fresh", "anew")
        facts["some changed"] = worked(model, photos, again, "sync")
        facts["nothing changed"] = worked(model, photos, again, "sync")
        compare(open_index(index), open_index(place / "fresh"))
        compare(open_index(again), open_index(place / "fresh"))
        for folder in (index, again, place / "fresh"):
            shutil.rmtree(folder)
    return times, facts


def describe(options: argparse.Namespace, times: dict[str, list[float]], facts: dict[str, Any]) -> str:
    command = f"python benchmarks/index_sync.py --images {options.images} --rounds {options.rounds}"
    if options.image_size != SIDE:
        command += f" --image-size {options.image_size}"
    faster = statistics.median(times["anew"]) / statistics.median(times["some changed"])
    inside = facts["anew"]["work"] / facts["some changed"]["work"]
    lines = [
        f"# Following {options.images:,} small files, {facts['changed']:,} of them changed",
        "",
        f"`{command}`, {datetime.date.today()}, {describe_machine()}, Python {platform.python_version()}, "
        f"{options.model} at {options.image_size} pixels. Seconds of the command, median (lowest to highest) of "
        f"{options.rounds} rounds; `work` is the last round without the start.",
        "",
        "| | s | work, s | photos opened |",
        "|---|---:|---:|---:|",
    ]
    for name, taken in times.items():
        shown = f"{statistics.median(taken):.1f} ({min(taken):.1f} to {max(taken):.1f})"
        lines.append(f"| {name} | {shown} | {facts[name]['work']:.2f} | {facts[name]['opened']:,} |")
    lines += ["", f"Sync is {faster:.1f} times as fast as anew, and {inside:.1f} times without the start."]
    return "\n".join([*lines, "", *["    " + line for line in (__doc__ or "").splitlines()[5:]]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--share", type=float, default=0.01)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="ViT-Ti_16")
    parser.add_argument("--image-size", type=int, default=SIDE)
    parser.add_argument("--place", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.place or Path(temporary)
        times, facts = measure(options, Path(os.path.realpath(place)))
    report = describe(options, times, facts)
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()
