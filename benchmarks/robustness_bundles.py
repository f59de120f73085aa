"""Bundles that benchmarks/robustness.py changes, and what they answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from robustness_answers import Answer, Change, Subject
from robustness_mutations import Random, change_folder, change_value
from safetensors.numpy import load_file, save_file

import vitsmith as vs
from vitsmith.data.images.sample_photos import sample_images
from vitsmith.models.config import LiTConfig
from vitsmith.models.text_config import BertConfig
from vitsmith.specs import Labels
from vitsmith.weights.bundle.bundle import Bundle

CONFIG = {"width": 32, "depth": 2, "heads": 2, "mlp_width": 48, "patch": (8, 8)}
CLASSES = ("cat", "dog", "fox", "hen", "owl")
PHOTOS = [image[:64, :48] for image in sample_images(3, side=64)]
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "cat", "dog", "fox", "hen", "owl", "red", "blue")


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
        from vitsmith.exporters.run import export

        export(bundle(), folder / "model", target)

    return make


def _change_bundle(folder: Path, random: Random) -> Change:
    what, name = change_folder(folder / "model", random)
    return Change(what, covered=name not in ("README.md",) and not name.startswith("split"))


def _predict_bundle(folder: Path) -> Answer:
    loaded = vs.load(folder / "model")
    told = (loaded.provenance, loaded.preprocessing, loaded.program_spec, loaded.measurements)
    return [*predictions(folder / "model"), *map(repr, told)]


def _seal(folder: Path) -> None:
    """Makes the hashes of a bundle anew, so that it seems to have been written like this."""
    from vitsmith.weights.bundle.manifest import checksum

    path = folder / "bundle.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(fields, dict) and isinstance(fields.get("files"), dict):
        for name in fields["files"]:
            if isinstance(name, str) and "\0" not in name and (folder / name).is_file():
                fields["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    if isinstance(fields, dict):
        fields["checksum"] = checksum(fields)
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


BUNDLES: dict[str, Subject] = {
    "bundle, torch": Subject(180, _torch_bundle, _change_bundle, _predict_bundle),
    "bundle, ONNX": Subject(60, _exported("onnx"), _change_bundle, _predict_bundle),
    "bundle, OpenVINO": Subject(30, _exported("openvino"), _change_bundle, _predict_bundle),
    "bundle, ExecuTorch": Subject(20, _exported("executorch"), _change_bundle, _predict_bundle),
    "bundle, LiT": Subject(50, _lit_bundle, _change_bundle, _classify),
    "bundle, other weights": Subject(40, _torch_bundle, _change_weights, _predict_sealed, tolerance=5e-3),
    "bundle, other JSON or golden": Subject(70, _torch_bundle, _change_sealed, _predict_sealed),
}
