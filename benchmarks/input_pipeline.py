"""How fast JPEGs become training batches, beside a plain Pillow loader.

    python benchmarks/input_pipeline.py [--rounds 5] [--small 512] [--large 32] [--out benchmarks/results/FILE.md]

Two sets of JPEGs are made in a temporary folder from scikit-image's photos, cut and enlarged at random, with grain:
ImageNet-sized ones, 500x375 (quality 90, about 110 KB each), and 12-megapixel ones, 4032x3024 (quality 92). All loaders
end in normalised float32 batches of (B, 3, 224, 224) in this process, and draw the same boxes (area 0.05 to 1):

- plain loader: torch's DataLoader with 2 worker processes; `Image.open().convert("RGB")`, crop, `resize(BILINEAR)`,
  flip, to float, normalise, collate
- scaled: `training_batches` with 2 threads and the default `decoding = "scaled"`, then `augment_on_device` (flip and
  normalise, on the CPU)
- scaled, by 16: the same, but `augment_on_device` gets 16 images at a time, as in micro-batches
- exact: as scaled, with `decoding = "exact"`
- scaled, crops only: without `augment_on_device`, as when a GPU does that

In each round each loader runs once, in turns. A loader first gives as many batches as it reads ahead, then is timed
over the batches that follow. Ratios are taken within a round; medians and ranges over rounds are shown. CPU time is
that of this process, its threads and its workers, per image, over the whole run of a loader: it depends far less on
what else the machine does than images/s. This process computes with one thread, as it would when a GPU trains: torch's
own threads wait for work by spinning, and took half of the two cores from the decoders. The stages are timed in one
thread, in CPU time: the median of the rounds.
"""

from __future__ import annotations

import argparse
import datetime
import io
import itertools
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
import simplejpeg
import skimage.data
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vitsmith.data.augment.crops import read_crop, read_part
from vitsmith.data.augment.settings import AugmentSpec, sample_box
from vitsmith.data.batches.device import augment_on_device
from vitsmith.data.batches.loader import Crops, training_batches
from vitsmith.data.sets.samples import Samples
from vitsmith.machine import describe_machine
from vitsmith.specs import ImageSpec

WORKERS = 2
READ_AHEAD = 4  # batches: the DataLoader's two for each worker
SPEC = ImageSpec.original(224)


class Kind(NamedTuple):
    """One set of photos, and how it is read."""

    name: str
    size: tuple[int, int]
    quality: int
    grain: float
    batch: int
    batches: int
    """Timed in a round."""


SMALL = Kind("500x375", (375, 500), 90, 17.0, 64, 16)
LARGE = Kind("4032x3024", (3024, 4032), 92, 4.0, 16, 6)


def write_photos(folder: Path, kind: Kind, count: int) -> list[Path]:
    """`count` different photos with the entropy of real ones."""
    random = np.random.default_rng(0)
    photos = [skimage.data.astronaut(), skimage.data.coffee(), skimage.data.chelsea(), skimage.data.rocket()]
    folder.mkdir()
    height, width = kind.size
    paths = []
    for index in range(count):
        photo = photos[index % len(photos)]
        tall = min(photo.shape[0], photo.shape[1] * height / width) * random.uniform(0.6, 1)
        wide = tall * width / height
        top, left = random.uniform(0, photo.shape[0] - tall), random.uniform(0, photo.shape[1] - wide)
        box = (left, top, left + wide, top + tall)
        enlarged = Image.fromarray(photo).resize((width, height), Image.Resampling.BICUBIC, box=box)
        grain = random.normal(0, kind.grain, (height, width, 1)).astype(np.float32)
        pixels = (np.asarray(enlarged, np.float32) + grain).clip(0, 255).astype(np.uint8)
        paths.append(folder / f"{index:04d}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=kind.quality)
    return paths


class PlainPhotos(Dataset[tuple[Tensor, int]]):
    """What one writes first: everything with Pillow, image by image."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        epoch, index = divmod(place, len(self.paths))
        random = np.random.default_rng([0, epoch, index])
        random.integers(2**63)
        with Image.open(self.paths[index]) as opened:
            image = opened.convert("RGB")
        box = sample_box(image.height, image.width, AugmentSpec(), random)
        image = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
        image = image.resize((224, 224), Image.Resampling.BILINEAR)
        if random.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        return pixels.float().div_(255).sub_(0.5).div_(0.5), index


def places(count: int) -> Iterator[int]:
    """The order of our own loader."""
    for epoch in itertools.count():
        yield from (epoch * count + np.random.default_rng([0, epoch]).permutation(count)).tolist()


def plain_batches(paths: list[Path], kind: Kind) -> Iterator[Tensor]:
    order = itertools.islice(places(len(paths)), (READ_AHEAD + kind.batches) * kind.batch)
    loader = DataLoader(PlainPhotos(paths), sampler=list(order), batch_size=kind.batch, num_workers=WORKERS)
    for images, _ in loader:
        yield images


def our_batches(paths: list[Path], kind: Kind, augment: AugmentSpec, *, micro: int) -> Iterator[Tensor]:
    """Normalised images, `micro` at a time, or crops where it is 0."""
    names = [path.name for path in paths]
    samples = Samples(("photo",), paths, names, np.zeros(len(paths), np.int64))
    with closing(training_batches(samples, SPEC, augment, batch=kind.batch, seed=0, threads=WORKERS)) as batches:
        for crops in itertools.islice(batches, READ_AHEAD + kind.batches):
            if not micro:
                yield crops.images
                continue
            for at in range(0, kind.batch, micro):
                part = Crops(*(tensor[at : at + micro] for tensor in crops))
                yield augment_on_device(part, augment, SPEC, classes=1).images


def cpu_seconds() -> float:
    """Of this process and of its ended children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class Timed(NamedTuple):
    """One run of a loader."""

    images_per_second: float
    cpu_ms: float
    """Per image."""


def measure(loader: Iterator[Tensor], kind: Kind) -> Timed:
    before = cpu_seconds()
    ahead = 0
    while ahead < READ_AHEAD * kind.batch:
        ahead += len(next(loader))
    began, count = time.perf_counter(), 0
    for images in loader:
        count += len(images)
    seconds = time.perf_counter() - began
    del loader
    used = cpu_seconds() - before
    return Timed(count / seconds, 1000 * used / (count + ahead))


def stages(paths: list[Path]) -> dict[str, Callable[[], object]]:
    """Work on all of `paths`, part by part, in one thread."""
    files = [path.read_bytes() for path in paths]

    def each(act: Callable[[bytes, np.random.Generator], object]) -> Callable[[], object]:
        return lambda: [act(data, np.random.default_rng(number)) for number, data in enumerate(files)]

    scaled, exact = AugmentSpec(), AugmentSpec(decoding="exact")
    least = {"min_height": 1, "min_width": 1}  # 1/8: one value of a block, but every bit of the file is read
    return {
        "read the files": lambda: [path.read_bytes() for path in paths],
        "entropy decoding alone (all of the file, at 1/8)": each(lambda data, _: simplejpeg.decode_jpeg(data, **least)),
        "decode all, simplejpeg": each(lambda data, _: simplejpeg.decode_jpeg(data)),
        "decode all, Pillow": each(lambda data, _: Image.open(io.BytesIO(data)).convert("RGB")),
        "decode to the last row of the box": each(lambda data, random: read_part(data, exact, random)),
        "the same, scaled": each(lambda data, random: read_part(data, scaled, random, needed=SPEC.size)),
        "the same, scaled, and resize": each(lambda data, random: read_crop(data, SPEC, scaled, random)),
        "exact, and resize": each(lambda data, random: read_crop(data, SPEC, exact, random)),
    }


def run(kind: Kind, paths: list[Path], rounds: int) -> list[str]:
    """The tables of one set of photos."""
    exact = AugmentSpec(decoding="exact")
    loaders: dict[str, Callable[[], Iterator[Tensor]]] = {
        "plain loader": lambda: plain_batches(paths, kind),
        "scaled": lambda: our_batches(paths, kind, AugmentSpec(), micro=kind.batch),
        "scaled, by 16": lambda: our_batches(paths, kind, AugmentSpec(), micro=16),
        "exact": lambda: our_batches(paths, kind, exact, micro=kind.batch),
        "scaled, crops only": lambda: our_batches(paths, kind, AugmentSpec(), micro=0),
    }
    timed: dict[str, list[Timed]] = {name: [] for name in loaders}
    parts: dict[str, list[float]] = {}
    some = paths[: max(len(paths) // 8, 4)]
    for _ in range(rounds):
        for name, loader in loaders.items():
            timed[name].append(measure(loader(), kind))
        for stage, work in stages(some).items():
            began = time.thread_time()
            work()
            parts.setdefault(stage, []).append(1000 * (time.thread_time() - began) / len(some))
    kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1000
    return describe(kind, len(paths), kilobytes, timed, parts)


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def describe(
    kind: Kind, count: int, kilobytes: float, timed: dict[str, list[Timed]], parts: dict[str, list[float]]
) -> list[str]:
    plain = timed["plain loader"]
    lines = [
        f"## {kind.name}: {count} files, {kilobytes:.0f} KB on average, batch {kind.batch}",
        "",
        "| loader | images/s | times plain | CPU ms/image | plain's CPU / this |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, runs in timed.items():
        faster = [ours.images_per_second / theirs.images_per_second for ours, theirs in zip(runs, plain, strict=True)]
        cheaper = [theirs.cpu_ms / ours.cpu_ms for ours, theirs in zip(runs, plain, strict=True)]
        cells = [
            name,
            spread([one.images_per_second for one in runs], ".0f"),
            spread(faster, ".2f"),
            spread([one.cpu_ms for one in runs], ".2f"),
            spread(cheaper, ".2f"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| stage, one thread | CPU ms/image |", "|---|---:|"]
    lines += [f"| {stage} | {statistics.median(values):.2f} |" for stage, values in parts.items()]
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=512)
    parser.add_argument("--large", type=int, default=32)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# JPEGs to training batches",
        "",
        f"`python benchmarks/input_pipeline.py --rounds {options.rounds} --small {options.small} "
        f"--large {options.large}`, {datetime.date.today()}, {describe_machine()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}, Pillow {PIL.__version__}, simplejpeg {simplejpeg.__version__}. "
        f"Median (lowest to highest) of {options.rounds} rounds in turns.",
        "",
    ]
    with tempfile.TemporaryDirectory() as place:
        for kind, count in ((SMALL, options.small), (LARGE, options.large)):
            paths = write_photos(Path(place) / kind.name, kind, count)
            lines += run(kind, paths, options.rounds)
    report = "\n".join([*lines, *["    " + line for line in __doc__.splitlines()[4:]]]) + "\n"
    print(report)
    if options.out:
        options.out.write_text(report)


if __name__ == "__main__":
    main()
