"""How much memory loading weights takes, beside the size of the parameters.

    python benchmarks/load_memory.py [--only ViT] [--out benchmarks/results/FILE.md]     (folders need transformers)

Written to a temporary folder, and loaded in a fresh process each: files with the arrays of the released ViT-L_16.npz
(1.2 GB) and ViT-H_14.npz (2.5 GB), and folders as transformers saves them, of DINOv3-L/16 (1.2 GB; in bfloat16 too)
and of CLIP-L/14 with both towers (1.7 GB; in float16 too). The peak is the kernel's high-water mark of resident memory
(VmHWM of /proc/self/status) after `vitsmith.load(...).model`. It is compared with the parameters as they are held, in
float32, whatever the file's type. Two baselines are taken off: a bare interpreter (stricter: importing torch counts as
ours), and the interpreter with vitsmith's and torch's modules imported. The file's pages in the kernel's cache do not
count: they are read, not mapped.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
model = vitsmith.load(sys.argv[1], headless=sys.argv[2] == "headless").model
print(bare, imported, kib("VmHWM"), time.perf_counter() - began, sum(p.numel() for p in model.parameters()))
"""


def write_npz(name: str, path: Path) -> None:
    """A released file's arrays with arbitrary values."""
    from vitsmith.models.build import create_model
    from vitsmith.weights.jax.writer import save_npz

    model = create_model(name)
    model.head.weight.data.normal_()
    save_npz(model, path)


def write_dinov3(kind: str, path: Path) -> None:
    """DINOv3-L/16 as transformers saves it, in the type of that name."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    _save(DINOv3ViTModel(DINOv3ViTConfig(**sizes, num_register_tokens=4)), kind, path)


def write_clip(kind: str, path: Path) -> None:
    """CLIP-L/14 as transformers saves it, both towers, without a tokenizer, in the type of that name."""
    from transformers import CLIPConfig, CLIPModel

    image = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    text = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    config = CLIPConfig(
        text_config={**text, "projection_dim": 768},
        vision_config={**image, "patch_size": 14, "image_size": 224, "projection_dim": 768},
        projection_dim=768,
    )
    _save(CLIPModel(config), kind, path)


def _save(model: Any, kind: str, path: Path) -> None:
    import torch

    model.to(getattr(torch, kind)).save_pretrained(path)


@dataclass(frozen=True)
class Subject:
    """Weights on disk."""

    name: str
    write: str
    """The function of this file that writes them, and its first argument."""
    argument: str
    place: str
    headless: bool = False


SUBJECTS = (
    Subject("ViT-L_16.npz", "write_npz", "ViT-L_16", "ViT-L_16.npz"),
    Subject("ViT-H_14.npz", "write_npz", "ViT-H_14", "ViT-H_14.npz"),
    Subject("DINOv3-L/16, transformers, float32", "write_dinov3", "float32", "dinov3", headless=True),
    Subject("DINOv3-L/16, transformers, bfloat16", "write_dinov3", "bfloat16", "dinov3", headless=True),
    Subject("CLIP-L/14, transformers, float32", "write_clip", "float32", "clip"),
    Subject("CLIP-L/14, transformers, float16", "write_clip", "float16", "clip"),
)


@dataclass(frozen=True)
class Run:
    """What a fresh process took, in MiB and seconds."""

    bare: float
    imported: float
    peak: float
    seconds: float
    parameters: float


def write(subject: Subject, path: Path) -> None:
    """Writes the weights, in a process of its own."""
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import load_memory; "
        f"load_memory.{subject.write}({subject.argument!r}, pathlib.Path({str(path)!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def measure(path: Path, *, headless: bool) -> Run:
    """Loads weights in a fresh process."""
    command = [sys.executable, "-c", CHILD, str(path), "headless" if headless else ""]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    bare, imported, peak, seconds, parameters = answer.stdout.split()
    kib = (int(bare) / 1024, int(imported) / 1024, int(peak) / 1024)
    return Run(*kib, float(seconds), int(parameters) * 4 / MIB)


def row(subject: Subject, on_disk: float, runs: list[Run]) -> str:
    """The worst of all runs."""
    worst = max(runs, key=lambda run: run.peak - run.imported)
    above, own = worst.peak - worst.bare, worst.peak - worst.imported
    return (
        f"| {subject.name} | {on_disk:.0f} | {worst.parameters:.0f} | {worst.peak:.0f} "
        f"| {above:.0f} | **{above / worst.parameters:.3f}** | {own:.0f} | **{own / worst.parameters:.3f}** "
        f"| {max(run.seconds for run in runs):.1f} |"
    )


def size(path: Path) -> float:
    """MiB of a file or of all files in a folder."""
    return sum(one.stat().st_size for one in (path.iterdir() if path.is_dir() else [path])) / MIB


def remove(path: Path) -> None:
    """Deletes a file or a folder."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a name")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    import torch

    from vitsmith.machine import describe_machine

    lines = [
        "# Memory of loading weights",
        "",
        f"`python benchmarks/load_memory.py {' '.join(sys.argv[1:])}`, {datetime.date.today()}, {describe_machine()}, "
        f"Python {platform.python_version()}, torch {torch.__version__}. "
        f"{REPEATS} fresh processes each; the worst is shown. Sizes in MiB; parameters in float32.",
        "",
        "| weights | on disk | parameters | peak | above bare interpreter | / parameters | above imports "
        "| / parameters | seconds (worst) |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as place:
        for subject in SUBJECTS:
            if options.only.lower() not in subject.name.lower():
                continue
            path = Path(place) / subject.place
            write(subject, path)
            lines.append(row(subject, size(path), [measure(path, headless=subject.headless) for _ in range(REPEATS)]))
            print(lines[-1], file=sys.stderr, flush=True)
            remove(path)
    lines += [
        "",
        "Limit asked for: 1.25 times the parameters, above the interpreter with torch.",
        "",
        *["    " + line for line in __doc__.splitlines()[4:]],
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
