"""Predicting a folder of 12-megapixel JPEGs: does any time go to waste, and what is it beside the plain loop?

    python benchmarks/folder_prediction.py [--images 96] [--rounds 5] [--out benchmarks/results/FILE.md]

ViT-Ti_16 at 224 (random weights) on 4000x3000 JPEGs (quality 90) made from scikit-image's photos, enlarged, with grain.
In each round these run once, in turns, over the same files:

- decode only: the Predictor's own threads read and preprocess every file; no model
- model only: the engine runs the same tensors in the same batches, already in memory
- predictor: `Predictor.stream` over the files, batch 16
- plain loop: `PIL.Image.open().convert("RGB").resize(..., BICUBIC)`, normalise, eager torch, one image at a time
- plain loop, batch 16: the same, but the model gets 16 images at once

Ratios are taken within a round; medians and ranges over rounds are shown. `waste` is the predictor's time over the sum
of decode only and model only: 1.0 means that nothing is lost, below 1.0 that the two overlap on idle cores.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image

import vitsmith as vs
from vitsmith.data.images.preprocess import load_image
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.exporters.run import export
from vitsmith.machine import describe_machine
from vitsmith.predict import Predictor
from vitsmith.weights.bundle.bundle import Bundle

BATCH = 16
HEIGHT, WIDTH = 3000, 4000


def write_photos(folder: Path, count: int) -> list[Path]:
    """`count` different 12-megapixel JPEGs."""
    generator = np.random.default_rng(0)
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    paths = []
    for index in range(count):
        photo = Image.fromarray(photos[index % len(photos)]).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
        grain = generator.integers(-6, 7, (HEIGHT // 2, WIDTH // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
        pixels = (np.asarray(photo, np.int16) + grain).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{index:04d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def make_bundles(folder: Path) -> dict[str, Bundle]:
    """The same model with exact and with scaled decoding, for torch and for onnxruntime."""
    model = vs.create_model("ViT-Ti/16")
    torch.manual_seed(0)
    model.head.weight.data.normal_(std=0.1)
    bundles = {}
    for name, scaled in (("exact decoding", False), ("scaled decoding", True)):
        spec = vs.ImageSpec.pillow(224, resize="squash", scaled_decoding=scaled)
        bundle = Bundle.of(model, preprocessing=spec).with_golden(sample_images(2))
        saved = vs.save(bundle, folder / name / "torch")
        assert saved is not None
        bundles[f"torch, {name}"] = saved
        bundles[f"onnx, {name}"], _ = export(saved, folder / name / "onnx", "onnx")
    return bundles


def decode_only(predictor: Predictor, paths: list[Path]) -> list[np.ndarray]:
    with ThreadPoolExecutor(predictor.image_stream.decoders) as pool:
        return list(pool.map(lambda path: load_image(path, predictor.bundle.preprocessing), paths))


def model_only(predictor: Predictor, tensors: list[np.ndarray]) -> None:
    for start in range(0, len(tensors), BATCH):
        predictor.engine.run(np.stack(tensors[start : start + BATCH]))


def predict(predictor: Predictor, paths: list[Path]) -> None:
    for _ in predictor.stream(paths):
        pass


def plain_loop(model: torch.nn.Module, paths: list[Path], batch: int) -> None:
    with torch.inference_mode():
        for group in batches(paths, batch):
            images = [Image.open(path).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC) for path in group]
            pixels = np.stack([np.asarray(image, np.float32) for image in images])
            model(torch.from_numpy((pixels / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)).softmax(-1)


def batches(paths: list[Path], size: int) -> list[list[Path]]:
    return [paths[start : start + size] for start in range(0, len(paths), size)]


def seconds(run: object, *arguments: object) -> float:
    began = time.perf_counter()
    run(*arguments)  # type: ignore[operator]
    return time.perf_counter() - began


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        paths = write_photos(Path(place), options.images)
        predictors = {
            name: Predictor(bundle, batch_size=BATCH) for name, bundle in make_bundles(Path(place) / "bundles").items()
        }
        tensors = {name: decode_only(predictor, paths) for name, predictor in predictors.items()}
        model = next(iter(predictors.values())).bundle.model
        times: dict[str, list[float]] = {}

        def keep(name: str, run: object, *arguments: object) -> None:
            times.setdefault(name, []).append(seconds(run, *arguments))

        for _ in range(options.rounds):
            keep("plain loop", plain_loop, model, paths, 1)
            keep("plain loop, batch 16", plain_loop, model, paths, BATCH)
            for name, predictor in predictors.items():
                keep(f"decode {name}", decode_only, predictor, paths)
                keep(f"model {name}", model_only, predictor, tensors[name])
                keep(name, predict, predictor, paths)
    report = describe(times, list(predictors), options.images, options.rounds)
    print(report)
    if options.out:
        options.out.write_text(report)


def describe(times: dict[str, list[float]], names: list[str], images: int, rounds: int) -> str:
    import onnxruntime

    lines = [
        "# Predicting a folder of 12-megapixel JPEGs with ViT-Ti_16",
        "",
        f"`python benchmarks/folder_prediction.py --images {images} --rounds {rounds}`, {datetime.date.today()}, "
        f"{describe_machine()}, Python {platform.python_version()}, torch {torch.__version__}, "
        f"onnxruntime {onnxruntime.__version__}. Median (lowest to highest) of {rounds} rounds in turns.",
        "",
        "| plain loop | images/s |",
        "|---|---:|",
    ]
    loops = ("plain loop", "plain loop, batch 16")
    lines += [f"| {loop} | {spread([images / t for t in times[loop]], '.1f')} |" for loop in loops]
    lines += [
        "",
        "| predictor | images/s | decode only, /s | model only, /s | waste | over plain loop | over batch 16 |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in names:
        whole, decode, engine = times[name], times[f"decode {name}"], times[f"model {name}"]
        waste = [w / (d + m) for w, d, m in zip(whole, decode, engine, strict=True)]
        gains = [[p / w for p, w in zip(times[loop], whole, strict=True)] for loop in loops]
        rates = [spread([images / t for t in part], ".1f") for part in (whole, decode, engine)]
        cells = [name, *rates, spread(waste, ".2f"), *(spread(gain, ".2f") for gain in gains)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *["    " + line for line in __doc__.splitlines()[4:]]]) + "\n"


if __name__ == "__main__":
    main()
