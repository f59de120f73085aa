"""Do weights of other libraries give their answers here? Each family is built there, with random values in every array.

    python benchmarks/parity.py [--only dinov2] [--out benchmarks/results/parity_CPU_DATE.md]

A row builds a small model from a configuration of its library (transformers), fills every array with random values,
larger than initial ones, saves it as the library saves it, loads the folder with `vitsmith.load`, and compares what
both answer for the same tensors: all tokens, pooled feature, and logits where there is a head. The largest difference
is relative to the largest answer. It must be at most 1e-5 at the size of the file and 1e-4 at another.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import vitsmith as vs

Answers = dict[str, Tensor]
Size = tuple[int, int]

TINY = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
NARROW = {**TINY, "intermediate_size": 112}


@dataclass(frozen=True)
class Row:
    """One model of a library, and the sizes of images it is compared at: that of the file first."""

    family: str
    distribution: str
    model: str
    """The library's class."""
    config: str
    fields: dict[str, Any]
    sizes: tuple[Size, ...]
    preprocessor: dict[str, Any] = field(default_factory=dict)
    forward: dict[str, Any] = field(default_factory=dict)
    """Arguments of the library's model at another size than the file's."""


INTERPOLATED = {"interpolate_pos_encoding": True}
DINOV2 = {**TINY, "image_size": 126, "patch_size": 14}
DINOV2_SIZES = ((126, 126), (56, 56), (70, 42), (140, 154))
VIT_SIZES = ((64, 64), (96, 96), (48, 80))
DINOV3_SIZES = ((64, 64), (96, 96), (48, 80))
VIT = {**NARROW, "image_size": 64}
CLASSES = {"num_labels": 7}
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
PUBLISHED_DINOV2 = {"image_size": 518, "patch_size": 14}
PUBLISHED_SIZES = ((518, 518), (224, 224), (448, 336))
DINOV3 = {**VIT, "num_register_tokens": 4}

ROWS = (
    Row("ViT", "HF", "ViTForImageClassification", "ViTConfig", {**VIT, **CLASSES}, VIT_SIZES, forward=INTERPOLATED),
    Row("ViT", "HF", "ViTModel", "ViTConfig", {**VIT, "qkv_bias": False}, VIT_SIZES, forward=INTERPOLATED),
    Row("DeiT", "HF", "DeiTForImageClassification", "DeiTConfig", {**VIT, **CLASSES}, VIT_SIZES, forward=INTERPOLATED),
    Row(
        "DeiT",
        "HF",
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        {**VIT, **CLASSES},
        VIT_SIZES,
        forward=INTERPOLATED,
    ),
    Row("DeiT", "HF", "DeiTModel", "DeiTConfig", VIT, VIT_SIZES, forward=INTERPOLATED),
    Row("MAE", "HF", "ViTMAEModel", "ViTMAEConfig", {**VIT, "mask_ratio": 0.0}, VIT_SIZES, forward=INTERPOLATED),
    Row("MAE", "HF", "ViTMAEForPreTraining", "ViTMAEConfig", {**VIT, "mask_ratio": 0.0}, VIT_SIZES[:1]),
    Row("DINOv2", "HF", "Dinov2Model", "Dinov2Config", DINOV2, DINOV2_SIZES),
    Row("DINOv2", "HF", "Dinov2Model", "Dinov2Config", {**DINOV2, "use_swiglu_ffn": True}, DINOV2_SIZES),
    Row("DINOv2", "HF", "Dinov2Model", "Dinov2Config", {**DINOV2, "qkv_bias": False, "mlp_ratio": 3}, DINOV2_SIZES),
    Row("DINOv2", "HF", "Dinov2ForImageClassification", "Dinov2Config", {**DINOV2, **CLASSES}, DINOV2_SIZES),
    Row("DINOv2 registers", "HF", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINOV2, DINOV2_SIZES),
    Row(
        "DINOv2 registers",
        "HF",
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        {**DINOV2, **CLASSES, "use_swiglu_ffn": True},
        DINOV2_SIZES,
    ),
    Row("DINOv3", "HF", "DINOv3ViTModel", "DINOv3ViTConfig", DINOV3, DINOV3_SIZES),
    Row(
        "DINOv3",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**DINOV3, "use_gated_mlp": True, "hidden_act": "silu", "rope_theta": 77.0},
        DINOV3_SIZES,
    ),
    Row(
        "DINOv3",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**DINOV3, "query_bias": False, "value_bias": False, "proj_bias": False, "mlp_bias": False},
        DINOV3_SIZES,
    ),
    Row(
        "DINOv3",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**DINOV3, "key_bias": True, "proj_bias": False},
        DINOV3_SIZES,
    ),
    Row("DINOv2 S/14", "HF", "Dinov2Model", "Dinov2Config", {**SMALL, **PUBLISHED_DINOV2}, PUBLISHED_SIZES),
    Row(
        "DINOv2 S/14 registers",
        "HF",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**SMALL, **PUBLISHED_DINOV2},
        PUBLISHED_SIZES,
    ),
    Row(
        "DINOv3 S/16",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {"num_register_tokens": 4},
        ((224, 224), (512, 512), (256, 384)),
    ),
    Row(
        "DINOv3 S+/16",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
        ((224, 224), (512, 512)),
    ),
)


@dataclass(frozen=True)
class Result:
    row: Row
    size: Size
    differences: dict[str, float]

    @property
    def limit(self) -> float:
        return 1e-5 if self.size == self.row.sizes[0] else 1e-4

    @property
    def equal(self) -> bool:
        return all(difference <= self.limit for difference in self.differences.values())


def compared(row: Row, folder: Path) -> Iterator[Result]:
    """One model at each of its sizes."""
    model = _hf_model(row)
    model.save_pretrained(folder)
    if row.preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(row.preprocessor))
    for size in row.sizes:
        images = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(1))
        theirs = _hf_answers(model, images, {} if size == row.sizes[0] else row.forward)
        ours = _our_answers(folder, size, images, headless="logits" not in theirs)
        yield Result(row, size, {what: _difference(ours[what], theirs[what]) for what in theirs})


def _hf_model(row: Row) -> Any:
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, row.config)(**row.fields)
    return randomized(getattr(transformers, row.model)(config)).eval()


def randomized(model: torch.nn.Module) -> torch.nn.Module:
    """Random values in every array: scales about 1, biases and tokens about 0.2, matrices that keep variance."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2 and "embedding" not in name.rsplit(".", 1)[-1] and "token" not in name:
                parameter.copy_(1.5 * noise * parameter[0].numel() ** -0.5)
            else:
                scale = "norm" in name and name.endswith("weight")
                parameter.copy_(0.3 * noise + scale)
    return model


@torch.no_grad()
def _hf_answers(model: Any, images: Tensor, arguments: dict[str, Any]) -> Answers:
    base = model if type(model).__name__.endswith("Model") else model.base_model
    if type(base).__name__.startswith("ViTMAE"):  # noise that rises keeps the order of the patches
        patch = base.config.patch_size
        count = (images.shape[2] // patch) * (images.shape[3] // patch)
        arguments = {**arguments, "noise": torch.arange(count).float().expand(len(images), -1)}
    found = base(images, **arguments)
    answers = {"tokens": found.last_hidden_state}
    if base is not model and not type(base).__name__.startswith("ViTMAE"):
        answers["logits"] = model(images, **arguments).logits
    elif getattr(found, "pooler_output", None) is not None:
        answers["pooled"] = found.pooler_output
    return answers


@torch.no_grad()
def _our_answers(folder: Path, size: Size, images: Tensor, *, headless: bool) -> Answers:
    bundle = vs.load(folder, image_size=size, headless=headless)
    found = bundle.model.features(images)
    answers = bundle.model(images)
    return {"tokens": found.tokens, "logits": answers, "pooled": answers}


def _difference(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max())


def table(results: list[Result]) -> str:
    lines = [
        "| family | from | model | fields | size | tokens | pooled | logits | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        row, usual = one.row, set(TINY) | {"intermediate_size", "image_size", "patch_size", "num_labels"}
        fields = ", ".join(f"{key} {value}" for key, value in row.fields.items() if key not in usual)
        shown = (
            f"{one.differences[what]:.1e}" if what in one.differences else "" for what in ("tokens", "pooled", "logits")
        )
        place = "x".join(map(str, one.size)) + (" (the file's)" if one.size == row.sizes[0] else "")
        verdict = "equal" if one.equal else "DIFFERS"
        cells = (row.family, row.distribution, row.model, fields, place, *shown, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="part of a family's, a model's or a distribution's name")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    wanted = [row for row in ROWS if options.only.lower() in f"{row.family} {row.distribution} {row.model}".lower()]
    results: list[Result] = []
    for row in wanted:
        with tempfile.TemporaryDirectory() as folder:
            results += compared(row, Path(folder))
    import transformers

    good = sum(one.equal for one in results)
    text = (
        f"# Parity with other libraries\n\n`python benchmarks/parity.py`, torch {torch.__version__}, transformers "
        f"{transformers.__version__}, {platform.machine()}. {good} of {len(results)} comparisons are equal: largest "
        "difference over largest answer at most 1e-5 at the file's size, 1e-4 at another. Every array is random.\n\n"
        f"{table(results)}\n"
    )
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    raise SystemExit(good != len(results))


if __name__ == "__main__":
    main()
