"""Photos to vectors with CLIP's image tower: how fast is `vitsmith embed`'s encoder beside fastembed on one ONNX file?

    pip install 'vitsmith[export,openvino]' transformers fastembed
    python benchmarks/embed_beside_fastembed.py [--photos 256] [--rounds 5] [--threads 2] [--tiny] [--out FILE.md]

CLIP-B/32 at 224 pixels with random weights, as transformers builds and saves it. Photographs are JPEG files of 640 x
480 pixels: crops of scikit-learn's two. A row reads files and gives vectors of length 1; nothing is kept from round to
round.

- fastembed, our file: `ImageEmbedding("Qdrant/clip-ViT-B-32-vision")` on the model.onnx that `vitsmith export` wrote
- fastembed, plain file: the same on torch.onnx.export of transformers' CLIPVisionModelWithProjection, which is what the
  published file is
- fastembed, our file, parallel: with `parallel`, a process for each thread, started in each call, as it does
- vitsmith, same file: `Encoder(bundle, "onnx")` on the file of the first row
- vitsmith, OpenVINO: the same weights exported to OpenVINO

Batches have 16 images, fastembed's default. In each round every row runs once, in turns, in one process; ratios are
taken within a round; medians (lowest to highest) over rounds are shown. The session is opened before, but for
`parallel`. Before, each row's vectors are compared with those of transformers' model on pixels of transformers' own
processor (Pillow): the lowest cosine is shown.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images

import vitsmith as vs
from vitsmith.machine import describe_machine

Array = np.ndarray[Any, Any]
BATCH, WIDTH, HEIGHT = 16, 640, 480
PREPROCESSING = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True, "size": {"shortest_edge": 224}, "resample": 3,
    "do_center_crop": True, "crop_size": {"height": 224, "width": 224},
    "do_rescale": True, "rescale_factor": 1 / 255,
    "do_normalize": True, "do_convert_rgb": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
"""CLIP's own, as its published folders have it."""


@dataclass
class Row:
    name: str
    embed: Callable[[list[str]], Array]
    seconds: list[float] = field(default_factory=list)
    cosine: float = float("nan")


def write_photos(folder: Path, count: int) -> list[str]:
    """Crops of two photographs, enlarged by up to a half, all different."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    paths = []
    for number in range(count):
        photo = photos[number % len(photos)]
        width = int(generator.integers(photo.width * 2 // 3, photo.width + 1))
        height = width * HEIGHT // WIDTH
        left = int(generator.integers(0, photo.width - width + 1))
        top = int(generator.integers(0, max(1, photo.height - height + 1)))
        paths.append(str(folder / f"{number:05d}.jpg"))
        photo.resize((WIDTH, HEIGHT), box=(left, top, left + width, min(photo.height, top + height))).save(
            paths[-1], quality=90
        )
    return paths


def write_model(place: Path) -> Any:
    """transformers' CLIP with random weights, saved as a folder at `place`."""
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig()).eval()
    model.save_pretrained(place)
    (place / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return model


def expected(model: Any, paths: list[str]) -> Array:
    """transformers' own image features of length 1, float32 (N, 512)."""
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    settings = {name: value for name, value in PREPROCESSING.items() if name != "image_processor_type"}
    processor = CLIPImageProcessorPil(**settings)
    found = []
    with torch.inference_mode():
        for path in paths:
            with Image.open(path) as image:
                pixels = processor(image, return_tensors="pt")["pixel_values"]
            features = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
            found.append(torch.nn.functional.normalize(features)[0].numpy())
    return np.stack(found)


class ImageTower(torch.nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.vision, self.projection = model.vision_model, model.visual_projection

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.projection(self.vision(pixel_values=pixel_values).pooler_output)
        return features


def fastembed_folder(place: Path, write: Callable[[Path], None]) -> Path:
    """A folder as fastembed reads it: model.onnx, and the preprocessing beside it."""
    place.mkdir()
    write(place / "model.onnx")
    (place / "preprocessor_config.json").write_text(json.dumps(PREPROCESSING))
    return place


def write_plain(model: Any, path: Path) -> None:
    example = torch.zeros(2, 3, 224, 224)
    torch.onnx.export(
        ImageTower(model).eval(), (example,), path, dynamo=True, verbose=False, external_data=False,
        input_names=["pixel_values"], output_names=["image_embeds"],
        dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch")}},
    )  # fmt: skip


def fastembed_row(name: str, folder: Path, threads: int, parallel: int | None = None) -> Row:
    from fastembed import ImageEmbedding  # vitsmith first: it turns off the reports of onnxruntime

    model = ImageEmbedding(
        "Qdrant/clip-ViT-B-32-vision", threads=threads, specific_model_path=str(folder), local_files_only=True
    )

    def embed(paths: list[str]) -> Array:
        return np.stack(list(model.embed(paths, batch_size=BATCH, parallel=parallel)))

    return Row(name, embed)


def vitsmith_row(name: str, bundle: Path, engine: str, threads: int) -> Row:
    encoder = vs.Encoder(bundle, engine, batch_size=BATCH, threads=threads)
    return Row(name, lambda paths: encoder.images(paths))


def make_rows(place: Path, model: Any, threads: int) -> list[Row]:
    for target in ("onnx", "openvino"):
        vs.export(place / "clip", target, place / target)
    (program,) = (path for path in (place / "onnx").rglob("*.onnx") if "text" not in path.name)
    ours = fastembed_folder(place / "ours", lambda path: shutil.copy(program, path) and None)
    plain = fastembed_folder(place / "plain", lambda path: write_plain(model, path))
    return [
        fastembed_row("fastembed, our file", ours, threads),
        fastembed_row("fastembed, plain file", plain, threads),
        fastembed_row("fastembed, our file, parallel", ours, threads, threads),
        vitsmith_row("vitsmith, same file", place / "onnx", "onnx", threads),
        vitsmith_row("vitsmith, OpenVINO", place / "openvino", "openvino", threads),
    ]


def measure(options: argparse.Namespace, place: Path) -> list[Row]:
    paths = write_photos(place / "photos", options.photos)
    model = write_model(place / "clip")
    reference = expected(model, paths[:32])
    rows = make_rows(place, model, options.threads)
    for row in rows:
        row.cosine = float((row.embed(paths[:32]) * reference).sum(axis=1).min())
    for number in range(options.rounds):
        for row in rows:
            began = time.perf_counter()
            row.embed(paths)
            row.seconds.append(time.perf_counter() - began)
            print(f"round {number + 1}, {row.name}: {row.seconds[-1]:.2f} s", file=sys.stderr, flush=True)
    return rows


def shown(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def describe(options: argparse.Namespace, rows: list[Row]) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in ("fastembed", "onnxruntime", "openvino", "transformers"))
    command = "python benchmarks/embed_beside_fastembed.py" + (
        f" --photos {options.photos} --rounds {options.rounds} --threads {options.threads}"
    )
    lines = [
        "# Photos to vectors with CLIP-B/32, beside fastembed",
        "",
        f"`{command}`, {datetime.date.today()}, {describe_machine()}, Python {platform.python_version()}, torch "
        f"{torch.__version__}, {versions}. Median (lowest to highest) of {options.rounds} rounds in turns.",
        "",
        "| | photos/s | times the first row | lowest cosine with transformers |",
        "|---|---:|---:|---:|",
    ]
    for row in rows:
        speed = [options.photos / seconds for seconds in row.seconds]
        ratio = [first / own for first, own in zip(rows[0].seconds, row.seconds, strict=True)]
        lines.append(
            f"| {row.name} | {statistics.median(speed):.1f} ({min(speed):.1f} to {max(speed):.1f}) | {shown(ratio)} | "
            f"{row.cosine:.7f} |"
        )
    return "\n".join([*lines, "", *["    " + line for line in (__doc__ or "").splitlines()[5:]]]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--tiny", action="store_true", help="32 photos, one round: to see that everything runs")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.tiny:
        options.photos, options.rounds = 32, 1
    with tempfile.TemporaryDirectory() as temporary:
        rows = measure(options, Path(temporary))
    report = describe(options, rows)
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()
