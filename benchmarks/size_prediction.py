"""How near predicted sizes on disk come to the programs that `export` and `quantize` write.

    python benchmarks/size_prediction.py [--out benchmarks/results/FILE.md] [--only NAME ...]

Each row is a model with random weights, written by the writers of both commands; bf16 is computed from the program in
fp32, so its size is that. Measured are the files of the program, predicted what `vitsmith.cost.size` says.
"""

from __future__ import annotations

import argparse
import datetime
import tempfile
from importlib.metadata import version
from pathlib import Path

from vitsmith.choosing.measured.build import random_bundle, write_to_time
from vitsmith.choosing.recommendation import Setup
from vitsmith.cost.size import size_of
from vitsmith.machine import describe_machine
from vitsmith.models.configure import configure

MODELS = ("ViT-Ti/16", "ViT-S/16", "Mixer-S/32", "R+ViT-Ti/16", "DINOv3-S_16", "ViT-B/16")
UNWRITTEN = {("R+ViT-Ti/16", "onnx", "int8")}
"""NNCF 3.4.0 fails at the ONNX graph of a hybrid with stages, so `quantize` writes none."""
SETUPS = tuple(Setup(engine, precision) for engine in ("onnx", "openvino") for precision in ("fp32", "int8"))


def row_of(name: str, setup: Setup) -> tuple[int, int]:
    """(predicted, measured) bytes of a model's program."""
    config = configure(name)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "model"
        write_to_time(random_bundle(config), setup, folder)
        files = [one for one in folder.iterdir() if one.name.startswith(("model.onnx", "model.xml", "model.bin"))]
        return size_of(config, setup.engine, setup.precision), sum(one.stat().st_size for one in files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--only", nargs="*", default=MODELS)
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "onnxruntime", "openvino", "nncf"))
    lines = [
        "# Predicted and written sizes of programs",
        "",
        f"`python benchmarks/size_prediction.py`, {datetime.date.today()}, {describe_machine()}, {packages}. "
        "MB are 10^6 bytes.",
        "",
        "| model | engine | precision | predicted MB | written MB | off |",
        "|---|---|---|---:|---:|---:|",
    ]
    errors = []
    for name in options.only:
        for setup in SETUPS:
            if (name, setup.engine, setup.precision) in UNWRITTEN:
                continue
            predicted, written = row_of(name, setup)
            errors.append(abs(predicted / written - 1))
            lines.append(
                f"| {name} | {setup.engine} | {setup.precision} | {predicted / 1e6:.2f} | {written / 1e6:.2f} | "
                f"{predicted / written - 1:+.2%} |"
            )
            print(lines[-1], flush=True)
    lines += ["", f"Largest error: {max(errors):.2%}."]
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
