"""Does int8 keep accuracy on real held-out images, and is a broken calibration caught?

    python benchmarks/quantization.py [--engines openvino onnx] [--folder FOLDER] [--out benchmarks/results/FILE.md]

Two models of our own making, as no weights can be downloaded here:

*photos*: a ViT of Ti's width and depth (192, 12), patch 8, 64 pixels, pre-trained on crops of 11 photos (500 updates of
32) and fine-tuned on 9 others (300 updates): crops of the photos that ship inside scikit-image and scikit-learn, in
grey, the class is the photo, training crops from the left 60 % of each photo and held-out ones from the rest
(benchmarks/made_here.py cuts them). 100 crops a class teach, 200 a class judge: one point is 18 crops.

*digits*: the model of `vitsmith quickstart`, judged on its held-out digits.

Each goes through `vitsmith.compress.quantize.run` as the verb does it (300 training images calibrate, the held-out ones
judge, at most 0.5 points may be lost, at least 1.2 times float's speed in batches of 8), but to the end of the ladder,
so that the table has every rung. Then the same once more with calibration images that were preprocessed wrongly: values
a fiftieth of what they should be, which makes the range of the patch embedding's input far too narrow. What has that in
int8 must be refused; with the patch embedding in float the LayerNorm behind it takes the scale out again, and the
program is right.

--folder keeps the trained models, and takes them from there when they exist.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch
from made_here import GROUP_A, GROUP_B, QUIET, train, write_crops

import vitsmith as vs
from vitsmith.compress.images import TaskImages, labelled_images, read_tensors
from vitsmith.compress.quantize.run import Quantization, Quantized, quantize
from vitsmith.compress.quantize.schemes import Attempt
from vitsmith.machine import describe_machine
from vitsmith.training.recipes.file import merge
from vitsmith.verbs.quickstart import digits_recipe
from vitsmith.weights.bundle.bundle import Bundle

BROKEN = 0.02
MODEL = {"model": {"name": "ViT-Ti_16", "image_size": 64, "position_std": 0.02, "config": {"patch": [8, 8]}}}
RECIPE = merge(
    QUIET,
    {
        "augment": {"area": [0.5, 1.0]},
        "batch": {"size": 32},
        "optimizer": {"name": "adamw", "lr": 0.0005, "weight_decay": 0.05, "clip": 1.0},
    },
)


def photo_model(folder: Path) -> tuple[Bundle, str]:
    """The fine-tuned model, and its data set."""
    data = folder / "photos-b"
    if not data.exists():
        write_crops(folder / "photos-a", GROUP_A, 100, 20)
        write_crops(data, GROUP_B, 100, 200)
    if not (folder / "tuned").exists():
        first = train(
            folder / "photos-a", folder / "pretrained", RECIPE, MODEL, {"schedule": {"steps": 500, "warmup": 50}}
        )
        init = {"model": {"init": str(first.trained.bundle.folder)}, "schedule": {"steps": 300, "warmup": 30}}
        tuned = train(data, folder / "tuned", RECIPE, init, {"optimizer": {"lr": 0.0003}})
        print(f"pre-trained to {first.top1:.2f} %, fine-tuned to {tuned.top1:.2f} %", flush=True)
    return vs.load(folder / "tuned" / "model"), str(data)


def digit_model(folder: Path) -> tuple[Bundle, str]:
    if not (folder / "digits").exists():
        recipe = digits_recipe(0).model_dump(exclude_unset=True)
        train(Path("digits"), folder / "digits", recipe)
    return vs.load(folder / "digits" / "model"), "digits"


def row(attempt: Attempt) -> str:
    judged, speedup = attempt.judged, attempt.speedup
    answers = f"{judged.top1:.2%} | {judged.agreement:.2%} | {judged.cosine:.4f}" if judged else " | | "
    speed = f"{speedup.batches:.2f} | {speedup.single:.2f}" if speedup else " | "
    ending = attempt.reason or "meets all"
    return f"| {attempt.name} | {attempt.rest} | {attempt.mib or 0:.1f} | {answers} | {speed} | {ending} |"


def table(found: Quantized) -> list[str]:
    chosen = found.search.chosen
    return [
        "| program | rest | MiB | top-1 | agreement | mean cosine | times float, batch 8 | one image | |",
        "|---|---|---|---|---|---|---|---|---|",
        *map(row, found.attempts),
        "",
        f"Float: {found.top1:.2%}. Taken: {chosen.name + ', rest ' + chosen.rest if chosen else 'none, keep float'}.",
        "",
    ]


def compare(bundle: Bundle, photos: TaskImages, engine: str, place: Path) -> list[str]:
    settings = Quantization(engine, fastest=True)
    lines = [f"### {engine}", ""]
    began = time.perf_counter()
    good = quantize(bundle, photos, place / f"{engine}-good", settings)
    lines += [*table(good), f"{time.perf_counter() - began:.0f} s.", ""]
    tensors = BROKEN * read_tensors(bundle, photos.calibration.sources)
    broken = quantize(bundle, photos, place / f"{engine}-broken", settings, calibration_tensors=tensors)
    caught = [one for one in broken.search.attempts if one.scheme and one.scheme.kind == "static"]
    wrong = [one for one in caught if one.reason and one.speedup is None]
    lines += [f"Calibrated wrongly: {len(wrong)} of {len(caught)} static programs refused for their answers.", ""]
    lines += [*table(broken)]
    print("\n".join(lines), flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engines", nargs="+", default=["openvino", "onnx"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    versions = ", ".join(f"{name} {version(name)}" for name in ("openvino", "nncf", "onnxruntime"))
    lines = [
        "# int8 on real held-out images, and with a broken calibration",
        "",
        f"`python benchmarks/quantization.py`, {datetime.date.today()}, {describe_machine()}, "
        f"torch {torch.__version__}, {versions}, Python {platform.python_version()}.",
        "",
    ]
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place)
        for name, make in (("photos", photo_model), ("digits", digit_model)):
            bundle, data = make(folder)
            photos = labelled_images(bundle, data)
            lines += [f"## {name}", "", f"{len(photos.calibration)} images calibrate, judged on {photos.name}.", ""]
            for engine in options.engines:
                lines += compare(bundle, photos, engine, Path(place) / name)
    lines += ["    " + line if line else "" for line in __doc__.splitlines()[4:]]
    text = "\n".join(lines).rstrip() + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
