"""How near predicted memory of inference comes to what a process takes.

    python benchmarks/memory_prediction.py [--out benchmarks/results/FILE.md] [--only N ...]

Each row is a model with random weights that torch runs in a child process, as `vitsmith benchmark` measures memory: it
loads the model, opens the engine and runs each batch twice. Measured is the peak above a bare Python interpreter,
predicted what `vitsmith.choosing.fit` says from the configuration, for a device 'cpu'. For a GPU the same is added up
without the holes that glibc's heap leaves, and with the workspaces of cuBLAS in place of the libraries; no GPU was at
hand to check it. The largest batch of a row comes last, so that no peak includes memory of a larger one.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import tempfile
from pathlib import Path

from vitsmith.benchmark.memory import Memory, Task, measure_memory
from vitsmith.choosing.fit.inference import inference_memory
from vitsmith.machine import describe_machine
from vitsmith.models.configure import configure

BATCHES = (1, 8, 32)
CASES: tuple[tuple[str, int, str], ...] = (
    ("ViT-Ti/16", 224, "fp32"),
    ("ViT-S/16", 224, "fp32"),
    ("ViT-B/16", 224, "fp32"),
    ("ViT-B/32", 224, "fp32"),
    ("ViT-Ti/16", 384, "fp32"),
    ("Mixer-B/32", 224, "fp32"),
    ("R+ViT-Ti/16", 224, "fp32"),
    ("ViT-S/16", 224, "bf16"),
)


def rows_of(name: str, side: int, precision: str, place: Path) -> list[tuple[int, int, int | None]]:
    """(batch, predicted, measured) of a model."""
    import vitsmith as vs
    from vitsmith.models.build import build

    config = configure(name, image_size=side)
    folder = place / f"{name.replace('/', '_')}-{side}-{precision}"
    vs.save(vs.Bundle.of(build(config)), folder)
    found = measure_memory(Task(str(folder), "torch", precision, None, "throughput", BATCHES))
    rows = []
    for batch in BATCHES:
        one = found[batch]
        predicted = inference_memory(config, batch, precision=precision, device="cpu").predicted
        rows.append((batch, predicted, one.bytes if isinstance(one, Memory) else None))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", type=int, nargs="*", default=range(len(CASES)))
    options = parser.parse_args()
    import torch

    lines = [
        "# Predicted and measured memory of inference with torch",
        "",
        f"`python benchmarks/memory_prediction.py`, {datetime.date.today()}, {describe_machine()}, torch "
        f"{torch.__version__}. MB (10^6 bytes) above a bare interpreter.",
        "",
        "| model | pixels | precision | batch | predicted | measured | off |",
        "|---|---:|---|---:|---:|---:|---:|",
    ]
    errors: list[float] = []
    with tempfile.TemporaryDirectory() as place:
        for number in options.only:
            name, side, precision = CASES[number]
            for batch, predicted, measured in rows_of(name, side, precision, Path(place)):
                told = "|  |" if measured is None else f"| {measured / 1e6:.0f} | {predicted / measured - 1:+.1%} |"
                errors += [] if measured is None else [abs(predicted / measured - 1)]
                lines.append(f"| {name} | {side} | {precision} | {batch} | {predicted / 1e6:.0f} {told}")
                print(lines[-1], flush=True)
    worst, middle = max(errors), statistics.median(errors)
    lines += ["", f"Of {len(errors)} rows the median error is {middle:.1%}, the largest {worst:.1%}.", ""]
    lines += ["    " + line for line in __doc__.splitlines()[4:]]
    print(lines[len(lines) - len(__doc__.splitlines()[4:]) - 2])
    if options.out:
        options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
