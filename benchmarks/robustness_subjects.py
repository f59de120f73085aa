"""What benchmarks/robustness.py changes, and how it finds out whether the answer is still the same.

A subject makes sound files in a folder, changes a copy of them, and uses the copy as a user would. What it gives back
is compared with what the sound files gave. `covered` says whether a checksum, or a length that the format tells, is to
notice the change: then another answer is a wrong one.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from robustness_mutations import VALUES, Random, change_bytes, change_file, change_folder, change_text, change_value
from safetensors.numpy import load_file, save_file

import vitsmith as vs
from vitsmith.data.photos import sample_images
from vitsmith.models.config import BertConfig, LiTConfig
from vitsmith.specs import Labels
from vitsmith.weights.bundle import Bundle

CONFIG = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 48, "patch": (8, 8)}
CLASSES = ("cat", "dog", "fox", "hen", "owl")
PHOTOS = [image[:64, :48] for image in sample_images(3, side=64)]
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "dog", "fox", "hen", "owl", "red", "blue")

Answer = list[Any]
"""Texts and arrays: equal for equal answers."""


@dataclass(frozen=True)
class Change:
    """What was done to a copy."""

    what: str
    covered: bool
    """Whether something in the format is there to notice it."""


@dataclass(frozen=True)
class Subject:
    """One kind of files."""

    share: int
    """Of all changes, in parts of what all subjects have together."""
    make: Callable[[Path], None]
    change: Callable[[Path, Random], Change]
    use: Callable[[Path], Answer]
    tolerance: float = 0.0
    """Arrays may differ by this share of the largest value and still be the same answer."""


def same(first: Answer, second: Answer, tolerance: float) -> bool:
    """Whether two answers are one."""
    return len(first) == len(second) and all(
        _same_array(a, b, tolerance) if isinstance(a, np.ndarray) and isinstance(b, np.ndarray) else a == b
        for a, b in zip(first, second, strict=True)
    )


def _same_array(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any], tolerance: float) -> bool:
    if first.shape != second.shape:
        return False
    if not tolerance or not first.size:
        return bool(np.array_equal(first, second))
    return float(np.abs(first - second).max()) <= tolerance * float(np.abs(first).max())


# ---- models


def model(seed: int = 0) -> torch.nn.Module:
    """A small ViT with weights of which none is zero."""
    made = vs.create_model("ViT-Ti_16", classes=len(CLASSES), image_size=32, **CONFIG)
    return _filled(made, seed)


def _filled(made: torch.nn.Module, seed: int) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(0.2 * noise + ("norm" in name and name.endswith("weight")))
    return made.eval()


def bundle(seed: int = 0) -> Bundle:
    """The model with names for its classes."""
    return Bundle.of(model(seed), labels=Labels(names=CLASSES))


def lit() -> Bundle:
    """A small LiT with its vocabulary."""
    image = vs.create_model("ViT-Ti_16", classes=0, image_size=32, **CONFIG).config
    text = BertConfig(
        width=64, depth=1, heads=1, mlp_width=48, vocabulary=len(WORDS), positions=20, length=8, classes=32
    )
    from vitsmith.models.build import build

    made = _filled(build(LiTConfig(image=image, text=text)), 1)
    return Bundle.of(made, vocabulary="\n".join(WORDS).encode())


def predictions(path: Path) -> Answer:
    """Logits and names, as any user of a model sees them."""
    predictor = vs.Predictor(vs.load(path), threads=1)
    names = predictor.labels.names if predictor.labels else ()
    return [predictor.logits(PHOTOS[:2]), *names]


def _torch_bundle(folder: Path) -> None:
    vs.save(bundle(), folder / "model")


def _exported(target: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from vitsmith.export.executorch import export_executorch
        from vitsmith.export.onnx import export_onnx
        from vitsmith.export.openvino import export_openvino

        export = {"onnx": export_onnx, "openvino": export_openvino, "executorch": export_executorch}[target]
        export(bundle(), folder / "model")

    return make


def _change_bundle(folder: Path, random: Random) -> Change:
    what, name = change_folder(folder / "model", random)
    return Change(what, covered=name not in ("README.md",) and not name.startswith("split"))


def _predict_bundle(folder: Path) -> Answer:
    loaded = vs.load(folder / "model")
    told = (loaded.provenance, loaded.images, loaded.program_spec, loaded.measurements)
    return [*predictions(folder / "model"), *map(repr, told)]


def _seal(folder: Path) -> None:
    """Makes the hashes of a bundle anew, so that it seems to have been written like this."""
    from vitsmith.weights.bundle_folder import _checksum

    path = folder / "bundle.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(fields, dict) and isinstance(fields.get("files"), dict):
        for name in fields["files"]:
            if isinstance(name, str) and "\0" not in name and (folder / name).is_file():
                fields["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    if isinstance(fields, dict):
        fields["checksum"] = _checksum(fields)
    path.write_text(json.dumps(fields), encoding="utf-8")


def _predict_sealed(folder: Path) -> Answer:
    return predictions(folder / "model")


def _change_sealed(folder: Path, random: Random) -> Change:
    """bundle.json or golden.safetensors as another program might have written them."""
    place = folder / "model"
    if random.uniform() < 0.6:
        path = place / "bundle.json"
        fields, what = change_value(json.loads(path.read_text(encoding="utf-8")), random)
        path.write_text(json.dumps(fields), encoding="utf-8")
    else:
        arrays = load_file(place / "golden.safetensors")
        name = sorted(arrays)[int(random.integers(len(arrays)))]
        array = arrays[name]
        ways: list[tuple[str, Any]] = [
            ("cut to one row", array[:1]),
            ("without rows", array[:0]),
            ("flat", array.reshape(-1)),
            ("of float64", array.astype(np.float64)),
            ("of int8", array.astype(np.int8)),
            ("a number", np.zeros((), array.dtype)),
            ("NaN", np.full(array.shape, np.nan, np.float32)),
            ("with another axis", array[None]),
        ]
        way, changed = ways[int(random.integers(len(ways)))]
        arrays[name] = np.ascontiguousarray(changed)
        save_file(arrays, place / "golden.safetensors")
        what = f"golden {name} {way}"
    _seal(place)
    return Change(f"{what}, hashes made anew", covered=False)


def _change_weights(folder: Path, random: Random) -> Change:
    """Weights that are others, under hashes made anew: golden answers are what notices."""
    path = folder / "model" / "model.safetensors"
    arrays = load_file(path)
    name = sorted(arrays)[int(random.integers(len(arrays)))]
    array = arrays[name]
    strength = float(10 ** random.uniform(-1, 1))
    arrays[name] = (array + strength * random.standard_normal(array.shape)).astype(np.float32)
    if random.uniform() < 0.1:
        arrays[name] = np.full(array.shape, random.choice((np.nan, np.inf)), np.float32)
    save_file(arrays, path, metadata={"format": "pt"})
    _seal(folder / "model")
    return Change(f"{name} moved by {strength:.2g}, hashes made anew", covered=True)


def _lit_bundle(folder: Path) -> None:
    vs.save(lit(), folder / "model")


def _classify(folder: Path) -> Answer:
    classifier = vs.ZeroShotClassifier(folder / "model", ["cat", "dog"], templates="a photo of a {}", cache=False)
    return [classifier.logits(PHOTOS[:2])]


# ---- checkpoints


def _npz(folder: Path) -> None:
    vs.save(model(), folder / "model.npz", format="npz")


def _change_npz(folder: Path, random: Random) -> Change:
    return Change(change_file(folder / "model.npz", random)[0], covered=True)


def _predict_npz(folder: Path) -> Answer:
    return predictions(folder / "model.npz")


def _timm_state() -> dict[str, torch.Tensor]:
    """The arrays of a ViT as timm names them: width 64, one head, 2 blocks, 4 x 4 patches of 8 pixels."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 64), "pos_embed": (1, 17, 64),
        "patch_embed.proj.weight": (64, 3, 8, 8), "patch_embed.proj.bias": (64,),
        "norm.weight": (64,), "norm.bias": (64,), "head.weight": (5, 64), "head.bias": (5,),
    }  # fmt: skip
    for block in range(2):
        for name, shape in {
            "norm1.weight": (64,), "norm1.bias": (64,), "norm2.weight": (64,), "norm2.bias": (64,),
            "attn.qkv.weight": (192, 64), "attn.qkv.bias": (192,),
            "attn.proj.weight": (64, 64), "attn.proj.bias": (64,),
            "mlp.fc1.weight": (96, 64), "mlp.fc1.bias": (96,), "mlp.fc2.weight": (64, 96), "mlp.fc2.bias": (64,),
        }.items():  # fmt: skip
            shapes[f"blocks.{block}.{name}"] = shape
    generator = torch.Generator().manual_seed(2)
    return {name: 0.2 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _pth(folder: Path) -> None:
    torch.save(_timm_state(), folder / "model.pth")


def _change_pth(folder: Path, random: Random) -> Change:
    return Change(change_file(folder / "model.pth", random)[0], covered=True)


def _predict_pth(folder: Path) -> Answer:
    return predictions(folder / "model.pth")


def _timm_folder(folder: Path) -> None:
    from safetensors.torch import save_file as save_tensors

    place = folder / "timm"
    place.mkdir()
    save_tensors(_timm_state(), place / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_classes": 5,
        "global_pool": "token",
        "label_names": list(CLASSES),
        "pretrained_cfg": {
            "input_size": [3, 32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "crop_pct": 0.9,
            "interpolation": "bicubic", "num_classes": 5,
        },
    }  # fmt: skip
    (place / "config.json").write_text(json.dumps(config))


def _change_timm(folder: Path, random: Random) -> Change:
    return Change(change_folder(folder / "timm", random)[0], covered=False)


def _predict_timm(folder: Path) -> Answer:
    return predictions(folder / "timm")


def _checkpoints(folder: Path) -> None:
    from vitsmith.train.checkpoint import CheckpointWriter

    writer = CheckpointWriter(folder, keep=2)
    arrays = {f"weights.{name}": torch.zeros_like(array) for name, array in model().named_parameters()}
    for step in (5, 10):
        writer.save(step, {name: array + step for name, array in arrays.items()}, {"data": "abc", "micro": 4})
        writer.wait()
    writer.close()


def _change_checkpoints(folder: Path, random: Random) -> Change:
    return Change(change_folder(folder / "checkpoints" / "step-000010", random)[0], covered=True)


def _read_checkpoint(folder: Path) -> Answer:
    from vitsmith.train.checkpoint import read_latest

    read = read_latest(folder)
    # Going on from the one before gives the same in the end: what counts is that the tensors are those of the step.
    sound = all((array == read.step).all() for array in read.tensors.values())
    shapes = [tuple(array.shape) for _, array in sorted(read.tensors.items())]
    return [sound, read.facts.get("step") == read.step, read.facts.get("data"), read.facts.get("micro"), *shapes]


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
        from vitsmith.data.images import read_image

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
        from vitsmith.data.datasets import open_dataset

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
    from vitsmith.train.recipe_file import parse_recipe, read_recipe

    return [parse_recipe(read_recipe(str(folder / "x.toml"))).model_dump_json()]


SUBJECTS: dict[str, Subject] = {
    "bundle, torch": Subject(180, _torch_bundle, _change_bundle, _predict_bundle),
    "bundle, ONNX": Subject(60, _exported("onnx"), _change_bundle, _predict_bundle),
    "bundle, OpenVINO": Subject(30, _exported("openvino"), _change_bundle, _predict_bundle),
    "bundle, ExecuTorch": Subject(20, _exported("executorch"), _change_bundle, _predict_bundle),
    "bundle, LiT": Subject(50, _lit_bundle, _change_bundle, _classify),
    "bundle, other weights": Subject(40, _torch_bundle, _change_weights, _predict_sealed, tolerance=5e-3),
    "bundle, other JSON or golden": Subject(70, _torch_bundle, _change_sealed, _predict_sealed),
    "checkpoint .npz": Subject(90, _npz, _change_npz, _predict_npz),
    "checkpoint .pth": Subject(60, _pth, _change_pth, _predict_pth),
    "checkpoint, folder of timm": Subject(50, _timm_folder, _change_timm, _predict_timm),
    "training checkpoint": Subject(50, _checkpoints, _change_checkpoints, _read_checkpoint),
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
