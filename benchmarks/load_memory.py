"""How much memory loading a released .npz takes, beside the size of the file.

    python benchmarks/load_memory.py [--out benchmarks/results/FILE.md]

Files with the arrays of ViT-L_16 (1.2 GB) and ViT-H_14 (2.5 GB) are written to a temporary folder. Each is loaded in a
fresh process. Its peak is the kernel's high-water mark of resident memory (VmHWM of /proc/self/status) after
`vitsmith.load(...).model`. Two baselines are taken off: a bare interpreter (stricter: importing torch counts as ours),
and the interpreter with vitsmith's and torch's modules imported. The file's pages in the kernel's cache do not count:
they are read, not mapped.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

MODELS = ("ViT-L_16", "ViT-H_14")
REPEATS = 3
MIB = 2**20

CHILD = """
import sys
def kib(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field))
bare = kib("VmRSS")
import time
import torch
import vitsmith.weights.checkpoint
imported = kib("VmRSS")
began = time.perf_counter()
model = vitsmith.load(sys.argv[1]).model
print(bare, imported, kib("VmHWM"), time.perf_counter() - began, sum(p.numel() for p in model.parameters()))
"""


def write_file(name: str, path: Path) -> None:
    """A released file's arrays with arbitrary values."""
    from vitsmith.models.build import create_model
    from vitsmith.weights.jax.writer import save_npz

    model = create_model(name)
    model.head.weight.data.normal_()
    save_npz(model, path)


def measure(path: Path) -> tuple[float, float, float, float]:
    """(bare, imported, peak) in MiB and seconds, from a fresh process."""
    answer = subprocess.run([sys.executable, "-c", CHILD, str(path)], check=True, capture_output=True, text=True)
    bare, imported, peak, seconds, _ = answer.stdout.split()
    return int(bare) / 1024, int(imported) / 1024, int(peak) / 1024, float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    import torch

    from vitsmith.machine import describe_machine

    lines = [
        "# Memory of loading a released .npz",
        "",
        f"`python benchmarks/load_memory.py`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}. "
        f"{REPEATS} fresh processes each; the worst is shown.",
        "",
        "| file | size MiB | peak MiB | above bare interpreter | / file | above imports | / file | seconds (worst) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as place:
        for name in MODELS:
            path = Path(place) / f"{name}.npz"
            write = [
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
                f"import load_memory, pathlib; load_memory.write_file({name!r}, pathlib.Path({str(path)!r}))",
            ]
            subprocess.run(write, check=True)
            size = path.stat().st_size / MIB
            runs = [measure(path) for _ in range(REPEATS)]
            bare, imported, peak, _ = max(runs, key=lambda run: run[2] - run[1])
            seconds = max(run[3] for run in runs)
            above, own = peak - bare, peak - imported
            lines.append(
                f"| {name}.npz | {size:.0f} | {peak:.0f} | {above:.0f} | **{above / size:.3f}** "
                f"| {own:.0f} | **{own / size:.3f}** | {seconds:.1f} |"
            )
            path.unlink()
    lines += ["", "Limit asked for: 1.25 times the file.", "", *["    " + line for line in __doc__.splitlines()[4:]]]
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        out.write_text(text)


if __name__ == "__main__":
    main()
