"""Wrote the fixtures of format 1: run once under each version of vitsmith, and never again.

    PYTHONPATH=<checkout of that commit> python make.py <first letters of the commit>

in a copy of this folder, as files name the place where they were made. It works on what vitsmith 0.1.0 called things,
and is not kept up with what came later.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save_file

import vitsmith as vs
from vitsmith.models.build import build
from vitsmith.models.config import LiTConfig, MixerConfig, ResNetConfig, ViTConfig
from vitsmith.models.text_config import BertConfig, TextTransformerConfig
from vitsmith.retrieval.index import open_index
from vitsmith.retrieval.search import search
from vitsmith.weights.bundle_folder import read_bundle

OUT = Path(sys.argv[1])
LATER = any(one.name == "head" for one in fields(vs.Bundle))
"""Whether this is the second of the two versions, whose bundles say what the head means."""
COLOURS = {"red": (210, 40, 40), "green": (40, 190, 50), "blue": (30, 50, 220)}
FIXED = [f"images/val/{name}/{number:02d}.png" for number in (9, 10) for name in COLOURS]
TEXTS = ["a red photo", "a photo of a blue square", "Something green", "red", "a small cat"]
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "something", "red", "green", "blue", "photo", "of", "the", "square"]

VIT = ViTConfig(width=16, depth=1, heads=2, mlp_width=24, patch=(8, 8), image_size=(16, 24), classes=3)
MIXER = MixerConfig(width=16, depth=2, tokens_mlp_width=12, channels_mlp_width=24, patch=(8, 8), image_size=(16, 24))
BERT = BertConfig(width=16, depth=1, heads=1, mlp_width=24, vocabulary=len(WORDS), positions=8, length=8, classes=16)
NAMES = vs.Labels(names=("red", "crème brûlée", 'blue, or "azure"'))
BASE = {"labels": NAMES, "provenance": vs.Provenance(source="made for a fixture", notes=("weights are drawn",))}


def draw_images() -> None:
    """Twelve images of each colour, and a table with captions."""
    generator = np.random.default_rng(0)
    rows = [("path", "caption")]
    for name, colour in COLOURS.items():
        for number in range(12):
            path = Path("images", "train" if number < 8 else "val", name, f"{number:02d}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            coarse = np.array(colour) + generator.integers(-40, 40, (4, 5, 3))
            pixels = np.kron(coarse, np.ones((5, 6, 1))).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path)
            rows.append((path.as_posix(), f"a {name} photo" if number % 2 else f"Something {name}"))
    with Path("pairs.csv").open("w", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


def drawn(config: Any, seed: int) -> Any:
    """A model whose every weight is drawn: fresh heads are zero."""
    model, generator = build(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2 and "embedding" not in name:
                parameter.copy_(noise * parameter[0].numel() ** -0.5)
            else:
                parameter.copy_(0.2 * noise + ("norm" in name and name.endswith("weight")))
    return model.eval()


def changed(config: Any, **changes: Any) -> Any:
    return type(config).model_validate({**config.model_dump(), **changes})


def save_bundles() -> None:
    """Torch weights of every family."""
    pillow = vs.ImageSpec.pillow(VIT.image_size, crop=0.875, mean=(0.48, 0.45, 0.4), std=(0.22, 0.23, 0.225))
    cases: dict[str, tuple[Any, dict[str, Any]]] = {
        "vit": (VIT, BASE),
        "vit-pillow": (
            changed(VIT, pooling="gap", norm_after_pooling=True, gelu="erf", norm_eps=1e-5),
            {**BASE, "images": pillow},
        ),
        "vit-distilled": (changed(VIT, depth=2, distillation_token=True, representation=20), {}),
        "vit-merging": (changed(VIT, depth=2, merge=(1, 2)), BASE),
        "vit-pruned": (changed(VIT, head_width=4, mlp_width=12), {}),
        "vit-headless": (changed(VIT, classes=0), {}),
        "hybrid": (
            changed(VIT, resnet=ResNetConfig(stages=(1,), width_factor=0.5), patch=(1, 1)),
            BASE,
        ),
        "mixer": (
            changed(MIXER, classes=3),
            BASE,
        ),
    }
    if LATER:
        cases["sigmoid"] = (VIT, {**BASE, "head": "sigmoid"})
        cases["regression"] = (changed(VIT, classes=2), {"head": "regression", "labels": vs.Labels(names=("x", "y"))})
    for seed, (name, (config, more)) in enumerate(cases.items()):
        save(vs.Bundle.of(drawn(config, seed), **more), name)
    tower = changed(VIT, classes=0)
    vocabulary = "".join(f"{word}\n" for word in WORDS).encode()
    save(vs.Bundle.of(drawn(LiTConfig(image=tower, text=BERT, bias=True), 20), vocabulary=vocabulary), "lit")
    plain = TextTransformerConfig(width=16, depth=1, heads=2, mlp_width=32, vocabulary=30, length=8, classes=16)
    save(vs.Bundle.of(drawn(LiTConfig(image=tower, text=plain), 21)), "lit-without-vocabulary")


def save(bundle: Any, name: str) -> None:
    from vitsmith.data.images import read_image

    vs.save(bundle.with_golden([read_image(path) for path in FIXED[:1]]), OUT / name)


def vitsmith(*arguments: object) -> str:
    """One command, as users give it."""
    told = list(map(str, arguments))
    print("vitsmith", *told, flush=True)
    done = subprocess.run([sys.executable, "-m", "vitsmith", *told], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def keep(run: Path, name: str) -> None:
    """Of a verb's run, the bundle alone."""
    shutil.move(run / "model", OUT / name)
    shutil.rmtree(run)


def train() -> None:
    """A bundle that was trained and measured here, a LiT model too, and a run that was interrupted."""
    small = ["width=16", "heads=2", "depth=1", "mlp_width=24", "patch=[8,8]"]
    others = ["model.image_size=16", "run.eval_every=6", "schedule.warmup=2"]
    options = [f"model.config.{one}" for one in small] + others
    settings = [word for one in options for word in ("--set", one)]
    few = ["--steps", 12, "--batch", 8, "--lr", 0.05]
    vitsmith("train", "--data", "images", "--model", "ViT-mu_16", *few, *settings, "--out", OUT / "run")
    keep(OUT / "run", "trained")
    vitsmith("evaluate", OUT / "trained", "--data", "images", "--record", "--out", OUT / "run")
    shutil.rmtree(OUT / "run")
    own = [
        "text.width=16",
        "text.depth=1",
        "text.heads=2",
        "text.length=8",
        "data.val_fraction=0.25",
        "schedule.warmup=2",
    ]
    own = [word for one in own for word in ("--set", one)]
    few = ["--steps", 6, "--batch", 8]
    vitsmith("lit", "--data", "pairs.csv", "--image", OUT / "vit-headless", *few, *own, "--out", OUT / "run")
    keep(OUT / "run", "lit-trained")
    vitsmith("evaluate", OUT / "lit-trained", "--data", "pairs.csv", "--retrieval", "--record", "--out", OUT / "run")
    shutil.rmtree(OUT / "run")


def stop() -> None:
    """Training that was interrupted after 9 of 12 updates, with a checkpoint after the 8th."""
    from vitsmith.data.datasets import open_dataset
    from vitsmith.train.recipe_file import parse_recipe
    from vitsmith.train.run import resolve, train_to_bundle

    config = {"width": 16, "heads": 2, "depth": 1, "mlp_width": 16, "patch": [8, 8]}
    model = {"name": "ViT-mu_16", "image_size": 16, "config": {**config, "dropout": 0.1, "stochastic_depth": 0.1}}
    own = {"data": {"path": "images"}, "model": model, "augment": {"grade": "light2"}}
    recipe = parse_recipe(own | STOPPED | {"batch": {"size": 8, "micro": 4}})
    splits = open_dataset(recipe.data, seed=recipe.run.seed)
    interrupt(train_to_bundle, resolve(recipe, len(splits.train)), splits, "stopped")


def stop_lit() -> None:
    """The same of a LiT model."""
    from vitsmith.data.pairs import open_pairs
    from vitsmith.train.lit.recipe import LitRecipe
    from vitsmith.train.lit.run import lit_to_bundle, resolve_lit
    from vitsmith.train.recipe_file import parse_fields

    own = {
        "data": {"path": "pairs.csv", "val_fraction": 0.25},
        "image": {"init": str(OUT / "vit-headless")},
        "text": {"width": 16, "depth": 1, "heads": 2, "length": 8, "templates": "a {} photo"},
    }
    recipe = parse_fields(own | STOPPED | {"batch": {"size": 8}}, LitRecipe)
    pairs = open_pairs(recipe.data, seed=recipe.run.seed)
    interrupt(lit_to_bundle, resolve_lit(recipe, len(pairs.train)), pairs, "stopped-lit")


STOPPED = {
    "schedule": {"steps": 12, "warmup": 2},
    "optimizer": {"name": "adamw", "lr": 0.01, "ema": 0.9},
    "run": {"eval_every": 6, "checkpoint_every": 8},
}


def interrupt(work: Any, recipe: Any, data: Any, name: str) -> None:
    from vitsmith.runs import Run

    def end(event: object) -> None:
        if getattr(event, "step", 0) == 9:
            raise KeyboardInterrupt

    try:
        with Run("lit" if "lit" in name else "train", "run", OUT / name) as run:
            work(recipe, data, run, on_event=end)
    except KeyboardInterrupt:
        return
    sys.exit("the run was not interrupted")


def export() -> None:
    """Programs of every engine."""
    programs: list[tuple[object, ...]] = [
        ("vit-onnx", "vit", "--to", "onnx"),
        ("vit-openvino", "vit", "--to", "openvino"),
        ("vit-executorch", "vit", "--to", "executorch"),
        ("lit-onnx", "lit", "--to", "onnx"),
    ]
    if LATER:
        programs += [
            ("vit-onnx-pixels", "vit-pillow", "--to", "onnx", "--pixels", "--batch", 2),
            ("trained-openvino-fp16", "trained", "--to", "openvino", "--precision", "fp16", "--data", "images"),
            ("lit-openvino", "lit", "--to", "openvino"),
        ]
    for name, model, *options in programs:
        vitsmith("export", OUT / str(model), *options, "--images", "images", "--out", OUT / str(name))


def compress() -> None:
    """What is smaller, what was measured, and indexes."""
    lax = ["--min-speedup", 0, "--out", OUT / "run"]
    vitsmith("quantize", OUT / "trained", "--data", "images", "--engine", "onnx", "--max-drop", 100, *lax)
    keep(OUT / "run", "trained-int8")
    if not LATER:
        vitsmith("merge", OUT / "vit-distilled", "--images", "images", "--ratio", 1.1, "--min-agreement", 0, *lax)
        keep(OUT / "run", "merged")
    left = ["--mlp-width", 12, "--heads", 1, "--steps", 2, "--batch", 8, "--max-drop", 100]
    vitsmith("prune", OUT / "trained", "--data", "images", *left, *lax)
    keep(OUT / "run", "pruned")
    measured = [OUT / name for name in ("vit", "vit-onnx", "vit-executorch", "trained")]
    engines = [word for name in ("torch", "onnx", "openvino", "executorch") for word in ("--engine", name)]
    few = ["--seconds", 0.01, "--threads", 1, "--precision", "fp32", "--images", "images", "--record"]
    vitsmith("benchmark", *measured, *engines, *few, "--out", OUT / "run")
    shutil.rmtree(OUT / "run")
    Path("texts.txt").write_text("".join(f"{text}\n" for text in TEXTS), encoding="utf-8")
    vitsmith("embed", OUT / "lit", "images", "--out", OUT / "index-images")
    vitsmith("embed", OUT / "lit-onnx", "--texts", "texts.txt", "--dtype", "float32", "--out", OUT / "index-texts")


def answers_of(name: str, arrays: dict[str, Any]) -> dict[str, Any]:
    """What a bundle says of itself; its answers go to `arrays`."""
    bundle = read_bundle(OUT / name)
    found: dict[str, Any] = {
        "program": bundle.program,
        "program_spec": bundle.program_spec.model_dump(mode="json"),
        "weights_hash": bundle.weights_hash,
        "identity": bundle.identity,
        "classes": bundle.classes,
        "head": getattr(bundle, "head", "softmax"),
        "labels": list(bundle.labels.names) if bundle.labels else None,
        "provenance": bundle.provenance.model_dump(mode="json"),
        "measurements": [one.model_dump(mode="json") for one in bundle.measurements],
        "golden": len(bundle.golden.images) if bundle.golden else 0,
    }
    if (split := getattr(bundle, "split", None)) is not None:
        arrays |= {f"{name}/split/{part}": getattr(split, part) for part in ("train", "held_out", "test", "earlier")}
    engine = bundle.program
    if bundle.classes:
        predictor = vs.Predictor(bundle, engine)
        arrays[f"{name}/logits"] = predictor.logits(FIXED)
        found["top"] = [one.top(1)[0][0] if found["head"] != "regression" else None for one in predictor(FIXED)]
    if bundle.program == "torch" or not bundle.classes:
        encoder = vs.Encoder(bundle, engine)
        found["embedding_identity"] = encoder.bundle.identity
        arrays[f"{name}/embeddings"] = encoder.images(FIXED)
    if bundle.text is not None:
        found["similarity"] = bundle.similarity.model_dump(mode="json")
        found["templates"] = list(bundle.text.templates)
        if bundle.vocabulary is not None:
            found["text_identity"] = bundle.text_identity
            arrays[f"{name}/tokens"] = bundle.tokenizer(TEXTS)
            arrays[f"{name}/texts"] = encoder.texts(TEXTS)
    return found


def record() -> None:
    """answers.json and answers.safetensors: what is to be found in the files for ever."""
    arrays: dict[str, Any] = {}
    bundles = sorted(path.parent.name for path in OUT.glob("*/bundle.json"))
    found: dict[str, Any] = {"bundles": {name: answers_of(name, arrays) for name in bundles}}
    found["indexes"] = {}
    encoder = vs.Encoder(read_bundle(OUT / "lit"), "torch")
    for name in ("index-images", "index-texts"):
        index = open_index(OUT / name)
        index.check_model(encoder.bundle)
        nearest = search(index, encoder.texts(TEXTS), 4)
        arrays |= {f"{name}/positions": nearest.positions, f"{name}/scores": nearest.scores}
        ids = index.ids(list(range(len(index))))
        found["indexes"][name] = {"space": index.space.model_dump(mode="json"), "ids": ids}
    found["resumed"] = {}
    for name, verb in (("stopped", "train"), ("stopped-lit", "lit")):
        shutil.copytree(OUT / name, OUT / "run")
        vitsmith(verb, "--resume", OUT / "run")
        rows = [json.loads(line) for line in (OUT / "run" / "metrics.jsonl").read_text().splitlines()]
        losses = {row["step"]: row["loss"] for row in rows if row["event"] == "step"}
        bundle = read_bundle(OUT / "run" / "model")
        arrays[f"{name}/embeddings"] = vs.Encoder(bundle, "torch").images(FIXED)
        found["resumed"][name] = losses
        shutil.rmtree(OUT / "run")
    (OUT / "answers.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, OUT / "answers.safetensors")


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)  # what is written names places from here
    os.environ.update(OMP_NUM_THREADS="1", VITSMITH_CACHE=tempfile.mkdtemp())
    OUT.mkdir()
    if not Path("images").exists():
        draw_images()
    save_bundles()
    train()
    stop()
    stop_lit()
    export()
    compress()
    record()
