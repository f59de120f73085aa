"""One ViT in every program that benchmarks/peers.py compares: timm, transformers, plain conversions, and ours."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

import vitsmith as vs
from vitsmith.compress.images import Amounts, labelled_images, read_tensors
from vitsmith.engines.golden_answers import open_checked
from vitsmith.engines.program import is_small
from vitsmith.engines.registry import precisions_of, runners
from vitsmith.engines.settings import Settings
from vitsmith.exporters.gate import Gate
from vitsmith.exporters.run import export
from vitsmith.models.build import build
from vitsmith.models.config import ViTConfig
from vitsmith.models.presets import VIT_SIZES
from vitsmith.models.vit import VisionTransformer
from vitsmith.specs import ProgramSpec
from vitsmith.weights.bundle.bundle import Bundle
from vitsmith.weights.jax.writer import save_npz

Array = np.ndarray[Any, Any]
Run = Callable[[Array], Array]
TIMM = {"Ti": "vit_tiny_patch16_224", "S": "vit_small_patch16_224", "B": "vit_base_patch16_224"}
BASE = "timm, eager fp32"


@dataclass(frozen=True, eq=False)
class Material:
    """float32 (images, 3, 224, 224), and what is true of them."""

    calibration: Array
    evaluation: Array
    labels: Array
    name: str

    def batch(self, count: int) -> Array:
        """The first that judge, from the beginning again when there are too few."""
        return np.ascontiguousarray(np.resize(self.evaluation, (count, *self.evaluation.shape[1:])))


@dataclass(frozen=True, eq=False)
class Question:
    """What all rows are asked."""

    bundle: Bundle
    given: dict[str, Bundle]
    place: Path
    batch: int
    threads: int
    compiled: bool
    material: Material


def read_material(bundle: Bundle, data: str, evaluation: int) -> Material:
    """The training images that `vitsmith quantize` would calibrate on, and test images, which it has not seen."""
    photos = labelled_images(bundle, data, "test", amounts=Amounts(evaluation=evaluation))
    assert photos.labels is not None
    tensors = (read_tensors(bundle, part.sources) for part in (photos.calibration, photos.evaluation))
    return Material(*tensors, photos.labels, photos.name)


def openers(question: Question) -> Iterator[tuple[str, bool, Any]]:
    """(name, whether it is ours, what opens it) of every row."""
    batch, threads, place = question.batch, question.threads, question.place
    theirs = timm_model(question.bundle, place)
    low = copy.deepcopy(theirs).bfloat16()
    yield BASE, False, lambda: torch_run(theirs)
    if question.compiled:
        yield "timm, compiled fp32", False, lambda: torch_run(torch.compile(copy.deepcopy(theirs)))
    yield "timm, eager bf16", False, lambda: torch_run(low, torch.bfloat16)
    if question.compiled:
        yield "timm, compiled bf16", False, lambda: torch_run(torch.compile(copy.deepcopy(low)), torch.bfloat16)
    yield "transformers, eager fp32", False, lambda: torch_run(transformers_model(size_of(question.bundle), theirs))
    yield "onnxruntime, plain fp32", False, lambda: onnx_run(theirs, threads, place)
    yield "openvino, plain fp32", False, lambda: openvino_run(converted(theirs, batch), threads, "f32")
    yield "openvino, plain default", False, lambda: openvino_run(converted(theirs, batch), threads)
    images = question.material.calibration
    yield "openvino, NNCF int8", False, lambda: openvino_run(quantised(theirs, batch, images), threads)
    for name, bundle in (write_bundles(question.bundle, place) | question.given).items():
        for title, opener in our_runs(name if name in question.given else "", bundle, batch, threads):
            yield title, True, opener


def size_of(bundle: Bundle) -> str:
    """Ti, S or B."""
    config = bundle.config
    if isinstance(config, ViTConfig) and config.patch == (16, 16) and bundle.preprocessing.size == (224, 224):
        for size in TIMM:
            if VIT_SIZES[size] == (config.width, config.depth, config.heads, config.mlp_width):
                return size
    raise SystemExit(f"{bundle.where} is no ViT-{{{','.join(TIMM)}}}/16 at 224 pixels")


def timm_model(bundle: Bundle, place: Path) -> nn.Module:
    """timm's model, which reads the weights of `bundle` with its own reader of the original's files."""
    import timm

    path, ours = place / "weights.npz", cast(VisionTransformer, bundle.model)
    if not path.exists():  # the format does not say which GELU it is: timm is told below
        same = build(ours.config.model_copy(update={"gelu": "tanh"}))
        same.load_state_dict(ours.state_dict())
        save_npz(same, path)
    act = {"erf": "gelu", "tanh": "gelu_tanh"}[ours.config.gelu]
    model: nn.Module = timm.create_model(TIMM[size_of(bundle)], num_classes=ours.config.classes, act_layer=act).eval()
    with torch.no_grad():
        model.load_pretrained(str(path))
    return model


def write_bundles(bundle: Bundle, place: Path) -> dict[str, Bundle]:
    """The float programs that vitsmith makes of it; what is there already is taken."""
    bundles = {"": bundle}
    for target in ("onnx", "openvino"):
        if not (place / target).exists():
            export(bundle, place / target, target, ProgramSpec(), Gate())
        bundles[target] = vs.load(place / target)
    return bundles


def transformers_model(size: str, theirs: Any) -> nn.Module:
    """The same weights in transformers' model."""
    from transformers import ViTConfig, ViTForImageClassification

    width, depth, heads, mlp_width = VIT_SIZES[size]
    sizes = {"hidden_size": width, "num_hidden_layers": depth, "num_attention_heads": heads}
    config = ViTConfig(**sizes, intermediate_size=mlp_width, layer_norm_eps=1e-6, num_labels=theirs.num_classes)
    model: nn.Module = ViTForImageClassification(config).eval()
    state = dict(_renamed(theirs.state_dict()))
    model.load_state_dict(state)
    return model


def _renamed(state: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """timm's names to those of transformers 5."""
    fixed = {
        "cls_token": "vit.embeddings.cls_token",
        "pos_embed": "vit.embeddings.position_embeddings",
        "patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "norm": "vit.layernorm",
        "head": "classifier",
    }
    inside = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    for name, array in state.items():
        stem, _, kind = name.rpartition(".")
        if name in fixed:
            yield fixed[name], array
        elif stem in fixed:
            yield f"{fixed[stem]}.{kind}", array
        else:
            _, number, part = stem.split(".", 2)
            where = f"vit.layers.{number}"
            if part == "attn.qkv":
                for letter, third in zip("qkv", array.chunk(3), strict=True):
                    yield f"{where}.attention.{letter}_proj.{kind}", third
            else:
                yield f"{where}.{inside.get(part, part)}.{kind}", array


def torch_run(model: nn.Module, dtype: torch.dtype = torch.float32) -> Run:
    def run(images: Array) -> Array:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(images).to(dtype))
            return getattr(outputs, "logits", outputs).float().numpy()

    return run


def onnx_run(model: nn.Module, threads: int, place: Path) -> Run:
    import onnxruntime

    path = place / "plain.onnx"
    if not path.exists():
        place.mkdir(exist_ok=True)
        batch = torch.export.Dim("batch")
        with open("/dev/null", "w") as quiet, contextlib.redirect_stdout(quiet):  # noqa: PTH123
            torch.onnx.export(model, (torch.rand(2, 3, 224, 224),), path, dynamic_shapes=({0: batch},), verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


def openvino_run(converted: Any, threads: int, hint: str = "") -> Run:
    import openvino

    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads}
    if hint:
        settings["INFERENCE_PRECISION_HINT"] = hint
    request = openvino.Core().compile_model(converted, "CPU", settings).create_infer_request()
    return lambda images: np.array(request.infer([images])[0])


def converted(model: nn.Module, batch: int) -> Any:
    import openvino

    return openvino.convert_model(model, example_input=torch.rand(batch, 3, 224, 224), input=[batch, 3, 224, 224])


def quantised(model: nn.Module, batch: int, images: Array) -> Any:
    import nncf

    few = [images[at : at + batch] for at in range(0, len(images) - batch + 1, batch)]
    return nncf.quantize(converted(model, batch), nncf.Dataset(few), model_type=nncf.ModelType.TRANSFORMER)


def our_runs(name: str, bundle: Bundle, batch: int, threads: int) -> Iterator[tuple[str, Callable[[], Run]]]:
    """(name, what opens it) for each engine and precision worth showing."""
    for engine in runners(bundle.program):
        if engine == "torch-compiled" or (not name and engine != bundle.program):
            continue
        for precision in precisions_of(bundle, engine):
            title = f"vitsmith, {name + ': ' if name else ''}{engine} {precision}"
            goal: Any = "latency" if batch == 1 else "throughput"
            settings = Settings(threads=threads, precision=precision, goal=goal, measure=not is_small(bundle))
            yield title, lambda e=engine, s=settings: open_checked(bundle, e, s).run
