"""Which cosine tells a near duplicate from another picture, and how many principal components clusters are found in.

    pip install 'vitsmith[torch,cluster]' scikit-image
    python benchmarks/sorting.py [MODEL ...] [--quick] [--out benchmarks/results/sorting_CPU_DATE.md]

Pictures: crops in colour of the photos that ship inside scikit-image and scikit-learn, 12 of each, with a side of 0.4
to 0.7 of the photo's shorter one. Each is edited in the ways in which photos of a collection differ. A pair of a crop
and its edit is a near duplicate; crops of two photos, edited or not, are other pictures. Two crops of one photo are
neither, and are left out, because they may overlap. For each threshold the tables have

- recall: the share of near duplicates that reach it, by edit,
- others: the share of pairs of other pictures that reach it,
- precision: of all pairs that reach it in a collection of the 240 crops and one edit of each, the share that are near
  duplicates; the mean over the edits that keep the picture (SAME). In a larger collection there are more other pairs
  for each near one, so it is lower.

The last two columns have thresholds that are found without any label: the one that 0.1 % of the pairs of other crops
reach, which `vitsmith duplicates` proposes where many pairs reach the one given (vitsmith/sorting/random_pairs.py), and
the cosine that 95 % of the crops have with their own copies saved as JPEG of quality 30 and at half the size.

What the numbers are for another model, only a run with that model tells. Without a MODEL there are three small ones:

- photos: trained here, that of finetune_photos.py, 151 thousand weights at 64 pixels, for 500 updates on crops in grey
  of 11 of the 20 photos;
- shapes: trained here by the recipe `shapes-tower`, a hybrid of 0.2 million weights, on drawn shapes alone;
- random: DINOv2-S_14's architecture at 98 pixels with random weights: what an untrained tower makes of pictures.

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
import torch
from made_here import FRESH, GROUP_A, PLAIN, QUIET, train, write_crops
from PIL import Image, ImageEnhance
from sklearn.cluster import HDBSCAN
from sklearn.datasets import load_digits, load_sample_image
from sklearn.decomposition import PCA
from sklearn.metrics import adjusted_rand_score

import vitsmith as vs
from vitsmith.layers.scale import LayerScale
from vitsmith.machine import describe_machine
from vitsmith.sorting.random_pairs import RARE

PHOTOS = (
    *("astronaut", "brick", "camera", "cat", "cell", "china", "clock", "coffee", "coins", "flower", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "motorcycle", "page", "retina", "rocket", "text"),
)
CROPS = 12
SIDES = (0.4, 0.7)  # of a crop, over the photo's shorter side
SIZE = 256
THRESHOLDS = (0.8, 0.85, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995)
COMPONENTS = (5, 10, 16, 20, 32, 50)
BLOCKS_SCALE = 0.5  # DINOv2's LayerScale of a random tower; it begins with 1e-5, which would leave its blocks out


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


SAME = ("JPEG 90", "JPEG 30", "half the size", "20 % brighter", "more contrast", "grey", "inner 95 %", "mirrored")
"""Edits that show the same picture."""


def thresholds(model: str | vs.Bundle) -> str:
    random = np.random.default_rng(0)
    pictures = [crop for name in PHOTOS for crop in crops(name, random)]
    of = np.repeat(np.arange(len(PHOTOS)), CROPS)
    encoder = vs.Encoder(model)
    vectors = encoder.images(pictures)
    edited = {name: encoder.images([edit(picture) for picture in pictures]) for name, edit in EDITS.items()}
    near = {name: (vectors * others).sum(axis=1) for name, others in edited.items()}
    apart = of[:, None] < of
    others = (vectors @ vectors.T)[apart]
    own = float(np.quantile(np.concatenate([near["JPEG 30"], near["half the size"]]), 0.05))
    limits = (*THRESHOLDS, float(np.quantile(others, 1 - RARE)), own)
    lines = [f"| cosine at least | {' | '.join(f'{one:.4g}' for one in limits)} |", f"|---|{'---:|' * len(limits)}"]
    for name, cosines in (*near.items(), ("others", others)):
        lines.append(_row(name, [float(np.mean(cosines >= limit)) for limit in limits]))
    found = {
        name: np.concatenate(
            [others, (vectors @ edited[name].T)[of[:, None] != of], (edited[name] @ edited[name].T)[apart]]
        )
        for name in SAME
    }
    lines.append(_row("precision", [_precision(near, found, limit) for limit in limits]))
    return f"{len(pictures)} crops, {len(others):,} pairs of other crops\n\n" + "\n".join(lines)


def _precision(near: dict[str, np.ndarray], others: dict[str, np.ndarray], limit: float) -> float:
    """The mean over SAME; nothing that reaches the limit counts as right."""
    shares = []
    for name in SAME:
        right, wrong = int((near[name] >= limit).sum()), int((others[name] >= limit).sum())
        shares.append(right / max(right + wrong, 1) if right + wrong else 1.0)
    return float(np.mean(shares))


def _row(name: str, shares: list[float]) -> str:
    return f"| {name} | {' | '.join(f'{100 * share:.2f} %' for share in shares)} |"


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


def trained_on_photos(folder: Path, updates: int) -> str:
    data = write_crops(folder / "photos", GROUP_A, 150, 20)
    plan = {"schedule": {"steps": updates, "warmup": updates // 10}, "optimizer": {"lr": 0.003}}
    train(data, folder / "run", QUIET, PLAIN, FRESH, plan)
    return str(folder / "run")


def trained_on_shapes(folder: Path, updates: int | None) -> str:
    shorter = {} if updates is None else {"schedule.warmup": updates // 10}
    vs.train(recipe="shapes-tower", steps=updates, settings=shorter, out=folder / "shapes", tell=print)
    return str(folder / "shapes" / "model")


def random_tower() -> vs.Bundle:
    torch.manual_seed(0)
    model = vs.create_model("DINOv2-S_14", image_size=98, classes=0)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, LayerScale):
                part.factors.fill_(BLOCKS_SCALE)
    return vs.Bundle.of(model)


def towers(folder: Path, *, quick: bool) -> Iterator[tuple[str, str | vs.Bundle]]:
    yield "photos, trained here on crops in grey", trained_on_photos(folder, 20 if quick else 500)
    yield "shapes, trained here on drawn shapes", trained_on_shapes(folder, 20 if quick else None)
    yield "random, DINOv2-S_14 at 98 pixels untrained", random_tower()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="anything vitsmith.load takes")
    parser.add_argument("--quick", action="store_true", help="train for 20 updates: whether the script runs, no result")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    asked = " ".join(["python benchmarks/sorting.py", *options.models, *(["--quick"] if options.quick else [])])
    with tempfile.TemporaryDirectory() as folder:
        given = ((name, name) for name in options.models)
        named = given if options.models else towers(Path(folder), quick=options.quick)
        tables = [f"## {name}: {thresholds(model)}" for name, model in named]
    text = "\n\n".join([f"# Sorting\n\n`{asked}`, {describe_machine()}", *tables, components()]) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
