"""What deployment costs without torch: `vitsmith predict BUNDLE cat.jpg` beside ten lines of onnxruntime and Pillow.

Both run in a fresh environment that holds `vitsmith[onnx]` and nothing else, in turns, as whole processes: CPU time and
peak memory of each as the system counts them (wait4). The bundle is ViT-Ti_16 with 1,000 classes, exported here to ONNX
in fp32; the picture is a sample photograph. The first start, which compares hashes and golden answers, is told by
itself.

    python benchmarks/slim_start.py [--rounds 15] [--out benchmarks/results/NAME.md]
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TEN_LINES = """\
import sys
import numpy as np
import onnxruntime as ort
from PIL import Image
image = Image.open(sys.argv[2]).convert("RGB").resize((224, 224), Image.BILINEAR)
tensor = (np.asarray(image, np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
(logits,) = session.run(None, {session.get_inputs()[0].name: tensor})
p = np.exp(logits[0] - logits[0].max()); p /= p.sum()
print(p.argmax(), f"{p.max():.1%}", sys.argv[2])
"""
ROOT = Path(__file__).parents[1]


def make_inputs(place: Path) -> None:
    """A bundle and a picture, by the environment that runs this script."""
    import torch
    from PIL import Image

    import vitsmith as vs
    from vitsmith.data.images.sample_photos import sample_images
    from vitsmith.exporters.run import export

    torch.manual_seed(0)
    model = vs.create_model("ViT-Ti_16", classes=1000)
    torch.nn.init.normal_(model.get_parameter("head.weight"), std=0.02)
    bundle = vs.Bundle.of(model, labels=vs.Labels(names=tuple(f"class {number}" for number in range(1000))))
    export(bundle.with_golden(sample_images(2)), place / "model", "onnx")
    Image.fromarray(sample_images(1)[0]).save(place / "cat.jpg", quality=92)
    (place / "ten_lines.py").write_text(TEN_LINES, encoding="utf-8")


def make_environment(place: Path) -> Path:
    """A fresh virtual environment with vitsmith[onnx]; its bin folder."""
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    installed = [place / "venv" / "bin" / "pip", "install", "--quiet", f"{ROOT}[onnx]"]
    subprocess.run(installed, check=True, stderr=subprocess.DEVNULL)
    return place / "venv" / "bin"


def cost(command: list[str], place: Path) -> tuple[float, float, float]:
    """(CPU seconds, peak MiB, seconds) of a whole process."""
    started = datetime.datetime.now()
    environment = os.environ | {"VITSMITH_CACHE": str(place / "cache")}
    process = subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}: {process.stderr.read().decode()}")  # type: ignore[union-attr]
    wall = (datetime.datetime.now() - started).total_seconds()
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, wall


def describe(rows: list[tuple[float, float, float]]) -> list[str]:
    """Cells: median with minimum and maximum."""
    cells = []
    for values, form in zip(zip(*rows, strict=True), ("{:.2f}", "{:.0f}", "{:.2f}"), strict=True):
        shown = [form.format(value) for value in (statistics.median(values), min(values), max(values))]
        cells.append(f"{shown[0]} ({shown[1]} to {shown[2]})")
    return cells


def size_mib(folder: Path) -> float:
    """Of all files on disk."""
    seen = {
        (one.stat().st_dev, one.stat().st_ino): one.stat().st_blocks * 512 for one in folder.rglob("*") if one.is_file()
    }
    return sum(seen.values()) / 2**20


def report(place: Path, rounds: int) -> str:
    """Markdown."""
    from vitsmith.machine import describe_machine

    bin_ = make_environment(place)
    # In a process of its own: what a process is forked from counts as memory that it had.
    subprocess.run([sys.executable, __file__, "--inputs", place], check=True, stdout=subprocess.DEVNULL)
    ten = [str(bin_ / "python"), "ten_lines.py", "model/model.onnx", "cat.jpg"]
    ours = [str(bin_ / "vitsmith"), "predict", "model", "cat.jpg"]
    cost(ten, place)
    first = cost(ours, place)
    cost(ours, place)  # hashes are remembered once the files have lain for two seconds
    turns = [(cost(ten, place), cost(ours, place)) for _ in range(rounds)]
    by_ten, by_us = (list(rows) for rows in zip(*turns, strict=True))
    ratios = [statistics.median(us[at] / other[at] for other, us in turns) for at in (0, 1)]
    packages = subprocess.run(
        [bin_ / "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout
    shown = [
        line
        for line in packages.split()
        if line.split("==")[0] in ("numpy", "onnxruntime", "pillow", "pydantic", "typer")
    ]
    lines = [
        "# A first answer without torch",
        "",
        f"Script: `benchmarks/slim_start.py`, {rounds} rounds in turns. {describe_machine()}, {datetime.date.today()}.",
        f"Python {sys.version.split()[0]}, {', '.join(shown)}.",
        "",
        "Medians, with minimum and maximum, of whole processes.",
        "",
        "| | CPU time, s | peak memory, MiB | time, s |",
        "|---|---|---|---|",
        f"| ten lines of onnxruntime and Pillow | {' | '.join(describe(by_ten))} |",
        f"| `vitsmith predict BUNDLE cat.jpg` | {' | '.join(describe(by_us))} |",
        f"| the same, the very first time | {first[0]:.2f} | {first[1]:.0f} | {first[2]:.2f} |",
        "",
        f"Ours takes {ratios[0]:.2f} times the CPU time and {ratios[1]:.2f} times the memory (medians of the turns).",
        f"The environment takes {size_mib(place / 'venv'):.0f} MiB on disk, pip and setuptools included.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inputs:
        make_inputs(options.inputs)
        return
    with tempfile.TemporaryDirectory() as place:
        text = report(Path(place), options.rounds)
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
