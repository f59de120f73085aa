"""Inference on one GPU: images a second in bf16 and fp8, and what share of the device's peak that is.

    python benchmarks/inference_gpu.py [--models ViT-B/16 ViT-L/16] [--batch 256] [--out FILE.md]
    python benchmarks/inference_gpu.py --device cpu --tiny      to see that the script works

224 pixels, 1000 classes, random weights, images already on the device, in bfloat16. Rows: eager, compiled
(torch.compile, mode max-autotune-no-cudagraphs and max-autotune), and compiled with fp8 products through torchao
(dynamic scales, one a row), where the device has them. Operations are those that are carried out: the model's own
(vitsmith.models.cost) without what the head does not see of the last block. `of peak` is their share of the datasheet's
dense bfloat16 peak, where the device is known (or of --peak, in TFLOP/s); `of product` of what one bfloat16 product of
8192 x 8192 matrices reaches here. Rows are timed in turns: median (lowest to highest) over --rounds rounds. Every row's
answers are compared with eager float32 on 64 images: cosine and top-1 agreement.

To reach: 60 % of peak for ViT-B/16 in bf16, and 1.2 times that in fp8.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import platform
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from train_step_gpu import PEAKS, product_speed, seconds

import vitsmith as vs
from vitsmith.machine import describe_machine
from vitsmith.models.config import ViTConfig
from vitsmith.models.cost import flops

MODELS = ("ViT-B/16", "ViT-L/16", "ViT-H/14")
TINY = ("ViT-mu/16",)
COMPARED = 64


@dataclass(eq=False)
class Row:
    """One way to run a model."""

    name: str
    run: Callable[[Tensor], Tensor]
    cosine: float = 0.0
    agreement: float = 0.0
    seconds: list[float] = field(default_factory=list)


def with_fp8(model: nn.Module) -> nn.Module:
    """A copy whose large linear layers multiply in fp8; the head stays in bfloat16, its width suits no fp8 kernel."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    copied = copy.deepcopy(model)
    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    quantize_(copied, config, filter_fn=lambda module, name: isinstance(module, nn.Linear) and "blocks." in name)
    return copied


def has_fp8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def rows_of(model: nn.Module, device: torch.device) -> list[Row]:
    bfloat16 = copy.deepcopy(model).bfloat16()
    rows = [
        Row("bf16, eager", bfloat16),
        Row("bf16, compiled", torch.compile(bfloat16, mode="max-autotune-no-cudagraphs")),
    ]
    if device.type == "cuda":
        rows.append(Row("bf16, compiled, CUDA graph", torch.compile(copy.deepcopy(bfloat16), mode="max-autotune")))
    if has_fp8(device):
        compiled = torch.compile(with_fp8(bfloat16), mode="max-autotune-no-cudagraphs")
        rows.append(Row("fp8, compiled", compiled))
    return rows


def compare(rows: list[Row], reference: nn.Module, images: Tensor) -> None:
    expected = reference(images[:COMPARED].float()).double()
    for row in rows:
        found = row.run(images)[: len(expected)].double()
        row.cosine = torch.cosine_similarity(found, expected, dim=-1).min().item()
        row.agreement = (found.argmax(-1) == expected.argmax(-1)).double().mean().item()


def measure(name: str, options: argparse.Namespace, device: torch.device) -> list[str]:
    torch.manual_seed(0)
    model = vs.create_model(name, classes=1000).eval().to(device)
    nn.init.normal_(model.head.weight, std=0.02)  # a fresh head is zero, and all answers would be the same
    images = torch.randn(options.batch, 3, *model.config.image_size, device=device, dtype=torch.bfloat16)
    product = product_speed(device, 512 if options.tiny else 8192)
    rows = rows_of(model, device)
    with torch.inference_mode():
        compare(rows, model, images)
        for _ in range(options.rounds):
            for row in rows:
                row.seconds.append(seconds(lambda row=row: row.run(images), options.calls, device))
    operations = operations_of(model.config) * options.batch
    peak = options.peak * 1e12 if options.peak else next((1e12 * p for n, p in PEAKS.items() if n in _name(device)), 0)
    slowest = statistics.median(rows[1].seconds)
    lines = []
    for row in rows:
        middle = statistics.median(row.seconds)
        rates = [options.batch / second for second in (middle, max(row.seconds), min(row.seconds))]
        share = f"{operations / middle / peak:.1%}" if peak else ""
        lines.append(
            f"| {name} | {row.name} | {rates[0]:,.0f} ({rates[1]:,.0f} to {rates[2]:,.0f}) | {slowest / middle:.2f} "
            f"| {share} | {operations / middle / product:.1%} | {row.cosine:.5f} | {row.agreement:.1%} |"
        )
    return lines


def operations_of(config: ViTConfig) -> int:
    """For one image. Queries are made for all tokens, in one product with keys and values."""
    unseen = config.tokens - config.prefix if config.pooling == "token" else 0
    after_attention = 2 * config.attention_width * config.width + 4 * config.width * config.mlp_width
    return flops(config) - unseen * (4 * config.tokens * config.attention_width + after_attention)


def _name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else describe_machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--peak", type=float, default=0.0, help="dense bfloat16 TFLOP/s of the device")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.tiny:
        options.models, options.batch, options.rounds, options.calls = TINY, 4, 2, 1
    device = torch.device(options.device)
    lines = [
        "# Inference on one GPU",
        "",
        f"`python benchmarks/inference_gpu.py`, {datetime.date.today()}, {_name(device)}, torch {torch.__version__}, "
        f"Python {platform.python_version()}; batches of {options.batch}.",
        "",
        "| model | | images/s | times bf16 compiled | of peak | of product | lowest cosine | top-1 agreement |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in options.models:
        lines += measure(name, options, device)
    lines += ["", *["    " + line if line else "" for line in __doc__.splitlines()[4:]]]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
