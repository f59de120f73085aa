"""Which cosine tells a near duplicate from another picture, and how many principal components clusters are found in.

    pip install 'vitsmith[torch,cluster]' scikit-image
    python benchmarks/sorting.py [MODEL ...] [--out benchmarks/results/sorting_CPU_DATE.md]

Pictures: crops in colour of the photos that ship inside scikit-image and scikit-learn, 12 of each, with a side of 0.4
to 0.7 of the photo's shorter one. Each is edited in ten ways in which photos of a collection differ. A pair of a crop
and its edit is a near duplicate; crops of two photos are other pictures. Two crops of one photo are neither, and are
left out, because they may overlap. For a threshold the table has the share of near duplicates that reach it, by edit,
and of pairs of other pictures. What the numbers are for another model, only a run with that model tells. Without a
MODEL it is a small one that is trained here: that of finetune_photos.py, 151 thousand weights at 64 pixels, for 500
updates on crops in grey of 11 of the 20 photos.

Components: the 1,797 digits of scikit-learn, their pixels as unit vectors, grouped by HDBSCAN in so many principal
components: the adjusted Rand index with the ten classes, over all (what is not grouped is one class) and over those
that are grouped, and the share that is not.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import skimage.data
from finetune_photos import FRESH, GROUP_A, PLAIN, QUIET, train, write_crops
from PIL import Image, ImageEnhance
from sklearn.cluster import HDBSCAN
from sklearn.datasets import load_digits, load_sample_image
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import vitsmith as vs
from vitsmith.machine import describe_machine

PHOTOS = (
    *("astronaut", "brick", "camera", "cat", "cell", "china", "clock", "coffee", "coins", "flower", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "motorcycle", "page", "retina", "rocket", "text"),
)
CROPS = 12
SIDES = (0.4, 0.7)  # of a crop, over the photo's shorter side
SIZE = 256
THRESHOLDS = (0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99)
COMPONENTS = (5, 10, 16, 20, 32, 50)


def photo(name: str) -> Image.Image:
    if name in ("china", "flower"):
        return Image.fromarray(load_sample_image(f"{name}.jpg"))
    pixels = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
    return Image.fromarray(pixels).convert("RGB")


def crops(name: str, random: np.random.Generator) -> Iterator[Image.Image]:
    whole = photo(name)
    for _ in range(CROPS):
        side = round(random.uniform(*SIDES) * min(whole.size))
        x, y = (int(random.integers(edge - side + 1)) for edge in whole.size)
        yield whole.crop((x, y, x + side, y + side)).resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def inner(picture: Image.Image, share: float) -> Image.Image:
    edge = round(SIZE * (1 - share) / 2)
    return picture.crop((edge, edge, SIZE - edge, SIZE - edge))


EDITS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 90": lambda picture: jpeg(picture, 90),
    "JPEG 30": lambda picture: jpeg(picture, 30),
    "half the size": lambda picture: picture.resize((SIZE // 2, SIZE // 2), Image.Resampling.LANCZOS),
    "20 % brighter": lambda picture: ImageEnhance.Brightness(picture).enhance(1.2),
    "more contrast": lambda picture: ImageEnhance.Contrast(picture).enhance(1.3),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "inner 95 %": lambda picture: inner(picture, 0.95),
    "inner 85 %": lambda picture: inner(picture, 0.85),
    "turned by 2 degrees": lambda picture: inner(picture.rotate(2, Image.Resampling.BICUBIC), 0.93),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def thresholds(model: str) -> str:
    random = np.random.default_rng(0)
    pictures = [crop for name in PHOTOS for crop in crops(name, random)]
    of = np.repeat(np.arange(len(PHOTOS)), CROPS)
    encoder = vs.Encoder(model)
    vectors = encoder.images(pictures)
    near = {
        name: (vectors * encoder.images([edit(picture) for picture in pictures])).sum(axis=1)
        for name, edit in EDITS.items()
    }
    others = (vectors @ vectors.T)[of[:, None] < of]
    header = " | ".join(f"{limit:g}" for limit in THRESHOLDS)
    lines = [f"| cosine at least | {header} |", f"|---|{'---:|' * len(THRESHOLDS)}"]
    for name, cosines in (*near.items(), ("other pictures", others)):
        shares = " | ".join(f"{100 * float(np.mean(cosines >= limit)):.2f} %" for limit in THRESHOLDS)
        lines.append(f"| {name} | {shares} |")
    return f"{len(pictures)} crops, {len(others):,} pairs of other pictures\n\n" + "\n".join(lines)


def components() -> str:
    pixels, classes = load_digits(return_X_y=True)
    vectors = pixels / np.linalg.norm(pixels, axis=1, keepdims=True)
    lines = ["| components | groups | not grouped | Rand, all | Rand, grouped |", "|---:|---:|---:|---:|---:|"]
    for count in COMPONENTS:
        reduced = PCA(count, svd_solver="full").fit_transform(vectors)
        found = HDBSCAN(min_cluster_size=5, algorithm="kd_tree", copy=True).fit_predict(reduced)
        inside = found >= 0
        rand = adjusted_rand_score(classes, found), adjusted_rand_score(classes[inside], found[inside])
        alone = 100 * float(np.mean(~inside))
        lines.append(f"| {count} | {found.max() + 1} | {alone:.0f} % | {rand[0]:.2f} | {rand[1]:.2f} |")
    return "## Principal components\n\n" + "\n".join(lines)


def trained_here(folder: Path) -> str:
    data = write_crops(folder / "photos", GROUP_A, 150, 20)
    plan = {"schedule": {"steps": 500, "warmup": 50}, "optimizer": {"lr": 0.003}}
    train(data, folder / "run", QUIET, PLAIN, FRESH, plan)
    return str(folder / "run")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="anything vitsmith.load takes")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = " ".join(["python benchmarks/sorting.py", *options.models])
    with tempfile.TemporaryDirectory() as folder:
        measured = {model: thresholds(model) for model in options.models}
        measured = measured or {"the model that is trained here": thresholds(trained_here(Path(folder)))}
    tables = [f"## {name}: {table}" for name, table in measured.items()]
    text = "\n\n".join([f"# Sorting\n\n`{asked}`, {describe_machine()}", *tables, components()]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
