"""Images, data sets, indexes and recipes that benchmarks/robustness.py changes."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from robustness_answers import Answer, Change, Subject
from robustness_bundles import CLASSES, PHOTOS, bundle, model
from robustness_mutations import VALUES, Random, change_bytes, change_file, change_folder, change_text

import vitsmith as vs

# ---- images

IMAGE_FORMATS: dict[str, tuple[dict[str, Any], str]] = {
    "png": ({"compress_level": 6}, "all"),
    "jpeg": ({"quality": 90}, "cut"),
    "webp": ({"lossless": True}, "cut"),
    "gif": ({}, "cut"),
    "bmp": ({}, "cut"),
    "tiff": ({"compression": "tiff_lzw"}, "cut"),
    "ppm": ({}, "cut"),
    "avif": ({}, "cut"),
}
"""How each is written, and which changes the format can notice: all, by checksums, or that the file was cut off."""


def _image_file(format: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        picture = Image.fromarray(PHOTOS[0])
        (picture.quantize(64) if format == "gif" else picture).save(folder / f"x.{format}", **IMAGE_FORMATS[format][0])

    return make


def _change_image(format: str) -> Callable[[Path, Random], Change]:
    def change(folder: Path, random: Random) -> Change:
        path = folder / f"x.{format}"
        before = path.read_bytes()
        after, what, touched = change_bytes(before, random)
        path.write_bytes(after)
        cut = what.startswith("cut") and len(before) - touched.start >= 16  # less may be what no decoder reads
        return Change(what, covered=IMAGE_FORMATS[format][1] == "all" or cut)

    return change


def _read_image(format: str) -> Callable[[Path], Answer]:
    def use(folder: Path) -> Answer:
        from vitsmith.data.images.read import read_image

        return [read_image(folder / f"x.{format}")]

    return use


# ---- data sets


def write_photos(folder: Path) -> list[str]:
    """Twelve pictures of three classes in class folders; their names."""
    names = []
    for number in range(12):
        name = f"{CLASSES[number % 3]}/{number:02d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(PHOTOS[number % 3], number, axis=0)).save(folder / name)
        names.append(name)
    return names


def _table(folder: Path) -> None:
    names = write_photos(folder)
    rows = [(name, name.split("/")[0], "val" if number % 4 == 0 else "train") for number, name in enumerate(names)]
    with (folder / "x.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split"), *rows])
    lines = [json.dumps({"path": path, "label": label, "split": split}) for path, label, split in rows]
    (folder / "x.jsonl").write_text("\n".join(lines) + "\n")


def _change_table(name: str) -> Callable[[Path, Random], Change]:
    def change(folder: Path, random: Random) -> Change:
        path = folder / name
        if random.uniform() < 0.4:
            return Change(change_file(path, random)[0], covered=False)
        text, what = change_text(path.read_text(encoding="utf-8"), random)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        return Change(what, covered=False)

    return change


def _read_dataset(name: str) -> Callable[[Path], Answer]:
    def use(folder: Path) -> Answer:
        from vitsmith.data.sets.datasets import open_dataset

        splits = open_dataset(str(folder / name))
        answer: Answer = [*splits.classes]
        for part in (splits.train, splits.val):
            answer += [*part.names, part.labels, *(part.image(index) for index in range(len(part)))]
        return answer

    return use


def _shards(folder: Path) -> None:
    for shard, numbers in (("train-0", range(8)), ("val-0", range(8, 12))):
        with tarfile.open(folder / f"{shard}.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            for number in numbers:
                _add(tar, f"{number:04d}.png", _png(np.roll(PHOTOS[number % 3], number, axis=0)))
                _add(tar, f"{number:04d}.cls", str(number % 3).encode())
    (folder / "classes.txt").write_text("\n".join(CLASSES[:3]) + "\n")


def _png(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _change_shards(folder: Path, random: Random) -> Change:
    path = folder / "train-0.tar"
    with tarfile.open(path) as tar:
        pictures = [(one.offset_data, one.offset_data + one.size) for one in tar if one.name.endswith(".png")]
        headers = [(one.offset, one.offset + 512) for one in tar]
    what, touched = change_file(path, random)
    inside = [*pictures, *headers]
    # Headers and pictures have checksums, the class files have none, and what is behind the last member is padding.
    covered = len(touched) == 1 and any(start <= touched.start < end for start, end in inside)
    return Change(what, covered)


def _label_file(folder: Path) -> None:
    vs.save(model(), folder / "model")
    (folder / "names.txt").write_text("\n".join(CLASSES) + "\n")


def _change_labels(folder: Path, random: Random) -> Change:
    path = folder / "names.txt"
    if random.uniform() < 0.4:
        return Change(change_file(path, random)[0], covered=False)
    text, what = change_text(path.read_text(encoding="utf-8"), random)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    return Change(what, covered=False)


def _read_labels(folder: Path) -> Answer:
    from vitsmith.weights.labels import with_labels

    labels = with_labels(vs.load(folder / "model"), folder / "names.txt").labels
    assert labels is not None
    return [*labels.names]


# ---- indexes, recipes


def _index(folder: Path) -> None:
    write_photos(folder / "photos")
    vs.save(bundle(), folder / "model")
    encoder = vs.Encoder(folder / "model")
    from vitsmith.retrieval.build import write_index

    write_index(encoder, sorted((folder / "photos").rglob("*.png")), folder / "index")


def _change_index(folder: Path, random: Random) -> Change:
    return Change(change_folder(folder / "index", random, spare=("lock",))[0], covered=True)


def _search(folder: Path) -> Answer:
    from vitsmith.retrieval.index import open_index
    from vitsmith.retrieval.search import search

    index = open_index(folder / "index")
    width = index.space.width
    queries = np.eye(width, dtype=np.float32)[:4]
    found = search(index, queries, 12)
    ids = [Path(name).name for name in index.ids(found.positions.ravel())]
    return [index.space.identity, index.space.kind, found.scores, *ids]


RECIPE = """
[data]
path = "digits"

[model]
name = "ViT-mu_16"
image_size = 16

[schedule]
steps = 100
warmup = 10

[batch]
size = 32

[optimizer]
name = "adamw"
lr = 0.001
betas = [0.9, 0.99]
"""


def _recipe(folder: Path) -> None:
    (folder / "x.toml").write_text(RECIPE)


def _change_recipe(folder: Path, random: Random) -> Change:
    path = folder / "x.toml"
    if random.uniform() < 0.4:
        return Change(change_file(path, random)[0], covered=False)
    text = path.read_text()
    lines = text.split("\n")
    at = int(random.choice([number for number, line in enumerate(lines) if "=" in line]))
    value = VALUES[int(random.integers(len(VALUES)))]
    lines[at] = f"{lines[at].split('=')[0]}= {json.dumps(value)}"
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    return Change(f"line {at + 1} changed", covered=False)


def _read_recipe(folder: Path) -> Answer:
    from vitsmith.training.recipes.file import parse_recipe, read_recipe

    return [parse_recipe(read_recipe(str(folder / "x.toml"))).model_dump_json()]


DATA: dict[str, Subject] = {
    "index of embeddings": Subject(70, _index, _change_index, _search),
    "table .csv": Subject(30, _table, _change_table("x.csv"), _read_dataset("x.csv")),
    "table .jsonl": Subject(30, _table, _change_table("x.jsonl"), _read_dataset("x.jsonl")),
    "tar shards": Subject(60, _shards, _change_shards, _read_dataset("train-0.tar")),
    "label file": Subject(20, _label_file, _change_labels, _read_labels),
    "recipe": Subject(20, _recipe, _change_recipe, _read_recipe),
} | {
    f"image .{suffix}": Subject(
        70 if suffix == "png" else 25, _image_file(suffix), _change_image(suffix), _read_image(suffix)
    )
    for suffix in IMAGE_FORMATS
}
