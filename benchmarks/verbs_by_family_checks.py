"""The checks of `verbs_by_family.py`: each runs a verb as a command, and compares what it wrote with the torch model.

The working folder holds a bundle of each family under its name, `colours` (labelled images in `train` and `val`),
`pairs/pairs.csv` (images with captions) and `photos`. The expected answers are computed from the model itself, never
by the verb.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import vitsmith as vs
from tests.families import FAMILIES, LABELS, bundle_of
from vitsmith.cli.main import main
from vitsmith.data.images.preprocess import load_image
from vitsmith.models.configure import change
from vitsmith.models.cost import parameters
from vitsmith.models.lit import LiT
from vitsmith.models.vit import VisionTransformer

ANY_DROP = ("--max-drop", 100, "--min-speedup", 0)
ANY = ("--min-agreement", 0, "--min-speedup", 0)
TRAINING = ("--steps", 2, "--batch-size", 12, "--set", "schedule.warmup=0", "--set", "run.eval_every=2")
CLASSES = sorted(LABELS)
"""The classes of the coloured images, in the order of models that were trained on them."""
LR = 0.1
WHOLE_SET = (
    *("--steps", 2, "--batch-size", 180, "--lr", LR),
    *("--set", "augment.area=[1,1]", "--set", "augment.flip=false"),
    *("--set", "augment.mixup=0", "--set", "augment.decoding=exact"),
    *("--set", "optimizer.name=sgd", "--set", "optimizer.momentum=0", "--set", "optimizer.clip=0"),
    *("--set", "optimizer.weight_decay=0", "--set", "schedule.warmup=0", "--set", "run.eval_every=2"),
)
"""Two updates, each on all training images as they are: no order and no chance has a say in them."""
LABELLED = ("--labels", ",".join(LABELS), "--templates", "a {}")


class Refused(Exception):  # noqa: N818
    """A verb ended with one line and code 2 or 3."""


@dataclass(frozen=True)
class Check:
    difference: Callable[[str], float]
    """Runs the verb on the family of this name and returns the largest relative difference. Raises Refused."""
    tolerance: float = 1e-4


def run(*arguments: object) -> str:
    """Standard output of `vitsmith ARGUMENTS`, in this process. Raises Refused, RuntimeError for any other failure."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as ended:
            code = ended.code
    told = [line.removeprefix("vitsmith: ") for line in err.getvalue().splitlines() if line.startswith("vitsmith: ")]
    if code in (2, 3) and len(told) == 1:
        raise Refused(told[0])
    if code:
        raise RuntimeError(f"code {code}: {err.getvalue().strip()}")
    return out.getvalue()


def differ(found: Any, expected: Any) -> float:
    """The largest difference, relative to the largest expected value if that is not 0; infinite where shapes differ."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / (np.abs(expected).max() or 1))


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def photos() -> list[Path]:
    return sorted(Path("photos").iterdir())


def training_images() -> list[Path]:
    return sorted(Path("colours/train").rglob("*.png"))


def tensors(bundle: vs.Bundle, files: list[Path]) -> torch.Tensor:
    return torch.from_numpy(np.stack([load_image(file, bundle.preprocessing) for file in files]))


@torch.inference_mode()
def answers(bundle: vs.Bundle, files: list[Path]) -> Any:
    """What the torch model says: unit vectors of two towers, logits or pooled features of others."""
    model = bundle.model
    assert isinstance(model, LiT | VisionTransformer)
    images = tensors(bundle, files)
    return (model.encode_image(images) if isinstance(model, LiT) else model(images)).numpy()


@torch.inference_mode()
def embeddings(bundle: vs.Bundle, files: list[Path]) -> Any:
    """Unit vectors, of classifiers the features that their head takes."""
    model = bundle.model
    if isinstance(model, LiT):
        return answers(bundle, files)
    assert isinstance(model, VisionTransformer)
    return unit(model.features(tensors(bundle, files)).pooled.numpy())


@torch.inference_mode()
def texts(bundle: vs.Bundle, words: list[str]) -> Any:
    model = bundle.model
    assert isinstance(model, LiT)
    return model.encode_text(torch.from_numpy(bundle.tokenizer(words))).numpy()


def softmax(logits: Any) -> Any:
    return torch.from_numpy(np.asarray(logits)).softmax(-1).numpy()


def label_scores(bundle: vs.Bundle, files: list[Path]) -> Any:
    """Probabilities of the labels by a model with two towers."""
    model = bundle.model
    assert isinstance(model, LiT)
    bias = 0.0 if model.logit_bias is None else model.logit_bias.item()
    words = texts(bundle, [f"a {label}" for label in LABELS])
    return softmax(model.temperature.item() * answers(bundle, files) @ words.T + bias)


def tower(bundle: vs.Bundle) -> VisionTransformer:
    found = bundle.model.image if isinstance(bundle.model, LiT) else bundle.model
    assert isinstance(found, VisionTransformer)
    return found


def bundle_in(folder: str | Path) -> vs.Bundle:
    """The one bundle that a verb wrote below a folder."""
    (manifest,) = {path.parent for path in Path(folder).rglob("bundle.json")}
    return vs.load(manifest)


def of_told(lines: str) -> Any:
    """(images, classes): the printed probabilities in the order of the classes."""
    rows = [json.loads(line)["predictions"] for line in lines.splitlines()]
    found = np.zeros((len(rows), len(LABELS)))
    for row, predictions in zip(found, rows, strict=True):
        for one in predictions:
            row[one["index"]] = one["probability"]
    return found


def inspect(family: str) -> float:
    told = json.loads(run("inspect", family, "--json"))
    return differ(int(told["parameters"].replace(",", "")), parameters(FAMILIES[family]))


def predict(family: str) -> float:
    told = of_told(run("predict", family, "photos", "--json", "--top", len(LABELS)))
    return differ(told, softmax(answers(bundle_of(family), photos())))


def zeroshot(family: str) -> float:
    told = of_told(run("zeroshot", family, "photos", *LABELLED, "--json", "--top", len(LABELS)))
    return differ(told, label_scores(bundle_of(family), photos()))


def top1(bundle: vs.Bundle, scores: Callable[[vs.Bundle, list[Path]], Any]) -> float:
    """Accuracy on the held-out images, whose folders are their classes."""
    files = sorted(Path("colours/val").rglob("*.png"))
    names = bundle.labels.names if bundle.labels is not None else LABELS
    firsts = scores(bundle, files).argmax(axis=-1)
    return float(np.mean([names[first] == file.parent.name for first, file in zip(firsts, files, strict=True)]))


def evaluate(family: str) -> float:
    told = json.loads(run("evaluate", family, "--data", "colours", "--split", "val", "--json"))
    return differ(told["top1"], top1(bundle_of(family), answers))


def evaluate_zeroshot(family: str) -> float:
    how = ("--data", "colours", "--split", "val", "--zeroshot", *LABELLED)
    told = json.loads(run("evaluate", family, *how, "--json"))
    return differ(told["top1"], top1(bundle_of(family), label_scores))


def evaluate_retrieval(family: str) -> float:
    told = json.loads(run("evaluate", family, "--data", "pairs/pairs.csv", "--retrieval", "--json"))
    rows = [line.split(",") for line in Path("pairs/pairs.csv").read_text().splitlines()[1:]]
    captions = list(dict.fromkeys(caption for _, caption in rows))
    bundle = bundle_of(family)
    firsts = (answers(bundle, [Path("pairs") / file for file, _ in rows]) @ texts(bundle, captions).T).argmax(axis=1)
    right = np.mean([captions[first] == caption for first, (_, caption) in zip(firsts, rows, strict=True)])
    return differ(told["recall"]["image_to_text"]["1"]["value"], right)


def embed(family: str, what: str) -> float:
    run("embed", family, "photos", "--what", what, "--dtype", "float32", "--out", f"{family}-{what}.npy")
    bundle = bundle_of(family)
    expected = embeddings(bundle, photos())
    if what != "pooled":
        with torch.inference_mode():
            found = tower(bundle).features(tensors(bundle, photos()))
        patches = found.tokens[:, tower(bundle).config.prefix :].unflatten(1, found.grid)
        expected = patches.numpy() if what == "patches" else unit(found.tokens[:, 0].numpy())
    return differ(np.load(f"{family}-{what}.npy"), expected)


def embed_texts(family: str) -> float:
    Path("texts.txt").write_text("\n".join(LABELS))
    run("embed", family, "--texts-file", "texts.txt", "--dtype", "float32", "--out", f"{family}-texts.npy")
    return differ(np.load(f"{family}-texts.npy"), texts(bundle_of(family), list(LABELS)))


def retrieve(family: str, *, by_text: bool) -> float:
    index = f"{family}-index-{by_text}"
    run("embed", family, "photos", "--out", index)
    query = ["red"] if by_text else ["--images", "photos/00.png"]
    told = json.loads(run("retrieve", *query, "--index", index, "--top", 5, "--json"))["results"]
    bundle = bundle_of(family)
    vectors = embeddings(bundle, photos())
    cosines = vectors @ (texts(bundle, query)[0] if by_text else vectors[0])
    return differ([one["score"] for one in told], -np.sort(-cosines)[:5])


def of_program(made: vs.Bundle, family: str) -> tuple[Any, Any]:
    """(answers of a program, those of the torch model), to photos."""
    original = bundle_of(family)
    found = vs.open_engine(made, engine=made.program).run(tensors(original, photos()).numpy())
    return found, answers(original, photos())


def export(family: str, to: str) -> float:
    """Pages and repositories of Triton take the ONNX program that was exported before, and copy it."""
    source = f"{family}-onnx" if to in ("web", "triton") else family
    run("export", source, "--to", to, "--out", f"{family}-{to}")
    made = bundle_in(f"{family}-{to}")
    found = differ(*of_program(made, family))
    if isinstance(bundle_of(family).model, LiT):
        tokens = bundle_of(family).tokenizer(list(LABELS))
        given = vs.open_engine(made, engine=made.program).run_texts(tokens)
        found = max(found, differ(given, texts(bundle_of(family), list(LABELS))))
    return found


def export_npz(family: str) -> float:
    run("export", family, "--to", "npz", "--out", f"{family}.npz")
    original = bundle_of(family)
    read = vs.load(f"{family}.npz", image_size=original.config.image_size)
    with torch.inference_mode():
        return differ(tower(read)(tensors(original, photos())), tower(original)(tensors(original, photos())))


def less_cosine(found: Any, expected: Any) -> float:
    """How much the mean cosine falls short of 1."""
    return float(1 - (unit(found) * unit(expected)).sum(axis=-1).mean())


def quantize(family: str, engine: str) -> float:
    out = f"{family}-int8-{engine}"
    run("quantize", family, "--images", "photos", "--engine", engine, *ANY, "--out", out)
    return less_cosine(*of_program(bundle_in(out), family))


def merge_tokens(family: str) -> float:
    """The merged model drops the tokens it says; its weights, unmerged, give the original's answers."""
    run("merge-tokens", family, "--images", "photos", "--keep", 0.95, *ANY, "--out", f"{family}-merged")
    original, merged = bundle_of(family), tower(bundle_in(f"{family}-merged"))
    images, config = tensors(original, photos()), merged.config
    unmerged = VisionTransformer(change(config, merge=()))
    unmerged.load_state_dict(merged.state_dict())
    with torch.inference_mode():
        left = merged.features(images).tokens.shape[1]
        if not sum(config.merge) or left != config.tokens - sum(config.merge):
            return float("inf")
        return differ(unmerged.eval()(images), tower(original)(images))


def prune(family: str) -> float:
    """The pruned model gives the answers of the original in which what was removed gives its mean over the images."""
    sizes = ("--heads", 2, "--mlp-width", 64, "--steps", 0)
    run("prune", family, "--data", "colours", *sizes, *ANY_DROP, "--out", f"{family}-pruned")
    bundle = bundle_of(family)
    original, pruned = tower(bundle), tower(bundle_in(f"{family}-pruned"))
    whole, kept = dict(original.named_parameters()), dict(pruned.named_parameters())
    means = mean_inputs(original, tensors(bundle, training_images()))
    images = tensors(bundle, photos())
    with torch.no_grad():
        for at in range(pruned.config.depth):
            for first, last in (("attention.qkv", "attention.out"), ("mlp.widen", "mlp.narrow")):
                rows = whole[f"blocks.{at}.{first}.weight"]
                left = kept[f"blocks.{at}.{first}.weight"]
                columns = whole[f"blocks.{at}.{last}.weight"]
                stays = (rows[-columns.shape[1] :, None] == left).all(-1).any(1)  # of q, k and v the values
                whole[f"blocks.{at}.{last}.bias"] += columns[:, ~stays] @ means[f"blocks.{at}.{last}"][~stays]
                columns[:, ~stays] = 0
        return differ(pruned(images), original(images))


def mean_inputs(model: VisionTransformer, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """By name: the mean over all images and tokens of what each linear layer of the blocks is given."""
    found: dict[str, torch.Tensor] = {}

    def keep(name: str, given: torch.Tensor) -> None:
        found[name] = given.flatten(0, -2).double().mean(dim=0).float()

    layers = [(name, one) for name, one in model.blocks.named_modules(prefix="blocks") if isinstance(one, nn.Linear)]
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: keep(name, given[0])) for name, layer in layers
    ]
    with torch.inference_mode():
        model(images)
    for handle in handles:
        handle.remove()
    return found


def compress(family: str) -> float:
    run("compress", family, "--data", "colours", "--over", "precision", "--max-drop", 100, "--out", f"{family}-small")
    return less_cosine(*of_program(bundle_in(f"{family}-small"), family))


def benchmark(family: str) -> float:
    """What it tells of the answers of the ONNX program that was exported before: none may differ."""
    how = ("--engine", "onnx", "--precision", "fp32", "--batch-size", 1, "--seconds", 0.05)
    told = json.loads(run("benchmark", f"{family}-onnx", *how, "--json", "--out", f"{family}-benchmark"))
    (row,) = told["rows"]
    return float(row["difference"])


def train(family: str, *, probe: bool) -> float:
    """The trained model gives the answers of one that two plain updates made; of a probe, of its head alone."""
    out = f"{family}-trained-{probe}"
    freeze = ("--set", 'model.freeze=["*"]') if probe else ()
    told = json.loads(run("train", "colours", "--model", family, *WHOLE_SET, *freeze, "--out", out, "--json"))
    labels = torch.tensor([CLASSES.index(file.parent.name) for file in training_images()])
    return as_trained(bundle_in(out), family, told, lambda given, _: F.cross_entropy(given, labels), probe=probe)


def distill(teacher: str, student: str) -> float:
    """The student gives the answers of one that two plain updates towards the teacher's answers made.

    Both see the same pixels, the teacher at its own size; the temperature is 2.
    """
    out = f"{teacher}-teaches-{student}"
    how = (
        "--teacher",
        teacher,
        "--model",
        student,
        *WHOLE_SET,
        "--set",
        "distill.temperature=2",
        "--out",
        out,
        "--force",
    )
    told = json.loads(run("distill", "colours", *how, "--json"))
    model = tower(bundle_of(teacher))

    def loss(answers: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            seen = F.interpolate(images, model.config.image_size, mode="bilinear", antialias=True)
            wanted = (model(seen)[:, [LABELS.index(name) for name in CLASSES]] / 2).softmax(dim=-1)
        return 4 * F.kl_div((answers / 2).log_softmax(dim=-1), wanted, reduction="batchmean")

    return as_trained(bundle_in(out), student, told, loss)


def as_trained(
    trained: vs.Bundle,
    family: str,
    told: Any,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    *,
    probe: bool = False,
) -> float:
    """The larger difference of the told accuracy and of the answers from those of a model trained here.

    `loss` takes the answers to all training images, and these images. The head starts at zero; the second of the two
    updates has half the learning rate.
    """
    model = VisionTransformer(tower(trained).config)
    start = {name: array for name, array in tower(bundle_of(family)).state_dict().items() if not _of_head(name)}
    model.load_state_dict({**model.state_dict(), **start})
    moving = [parameter for name, parameter in model.named_parameters() if _of_head(name) or not probe]
    torch.nn.init.zeros_(model.head.weight)
    torch.nn.init.zeros_(model.head.bias)
    spec = trained.preprocessing.model_copy(update={"resize": "squash", "crop": 1.0})
    images = torch.from_numpy(np.stack([load_image(file, spec) for file in training_images()]))
    for rate in (LR, LR / 2):
        gradients = torch.autograd.grad(loss(model(images), images), moving)
        with torch.no_grad():
            for parameter, gradient in zip(moving, gradients, strict=True):
                parameter -= rate * gradient
    with torch.inference_mode():
        expected = model.eval()(tensors(trained, photos()))
    return max(differ(told["top1"], top1(trained, answers)), differ(answers(trained, photos()), expected))


def _of_head(name: str) -> bool:
    return name.startswith(("head.", "representation."))


def lit(family: str) -> float:
    """The image tower stays as it is."""
    how = ("--set", "text.width=32", "--set", "text.depth=1", "--set", "text.heads=2", *TRAINING)
    run("lit", "pairs/pairs.csv", "--model", family, *how, "--out", f"{family}-lit")
    trained = bundle_in(f"{family}-lit")
    return differ(answers(trained, photos()), embeddings(bundle_of(family), photos()))


CHECKS = {
    "inspect": Check(inspect, 0),
    "predict": Check(predict),
    "zeroshot": Check(zeroshot),
    "evaluate": Check(evaluate),
    "evaluate --zeroshot": Check(evaluate_zeroshot),
    "evaluate --retrieval": Check(evaluate_retrieval),
    **{f"embed --what {what}": Check(partial(embed, what=what)) for what in ("pooled", "class", "patches")},
    "embed --texts-file": Check(embed_texts),
    "retrieve by image": Check(partial(retrieve, by_text=False), 1e-3),
    "retrieve by text": Check(partial(retrieve, by_text=True), 1e-3),
    **{
        f"export --to {to}": Check(partial(export, to=to)) for to in ("onnx", "openvino", "executorch", "web", "triton")
    },
    "export --to npz": Check(export_npz),
    **{f"quantize --engine {engine}": Check(partial(quantize, engine=engine), 0.02) for engine in ("onnx", "openvino")},
    "merge-tokens": Check(merge_tokens),
    "prune": Check(prune),
    "compress": Check(compress, 0.02),
    "benchmark of the ONNX program": Check(benchmark),
    "train (all)": Check(partial(train, probe=False)),
    "train (probe)": Check(partial(train, probe=True)),
    "distill, as teacher of DeiT III": Check(lambda family: distill(family, "deit3")),
    "distill, as student of DINOv3": Check(lambda family: distill("dinov3", family)),
    "lit, as image tower": Check(lit),
}
"""By verb, and what is asked of it, in an order in which the programs that others take are there."""
