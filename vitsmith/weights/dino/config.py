"""The configuration that the arrays of a DINOv2 or DINOv3 stand for; their files have nothing else."""

from __future__ import annotations

import math
import re
from typing import Any

import torch

from vitsmith.errors import WeightsError
from vitsmith.models.config import ViTConfig
from vitsmith.models.configure import parse_config
from vitsmith.weights.dino.names import PATCHES, PERIODS, POSITIONS, REGISTERS, widen_of
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.unsupported import check_channels

HEAD_WIDTH = 64
"""Of every DINOv2; a DINOv3 says it by the number of its periods."""
BASE = 100.0
DINOV2_SIZE, DINOV3_SIZE = 224, 256
"""Image sizes of the authors' preprocessing: data/transforms.py of DINOv2, README of DINOv3."""


def infer_dino_config(file: ArrayFile) -> ViTConfig:
    """The configuration at the size of the stored positions, or for DINOv3 of the authors' images.

    Raises WeightsError for what no published model is.
    """
    check_channels(file, PATCHES)
    shapes = file.shapes
    width, _, *patch = shapes[PATCHES]
    widen = widen_of(shapes)
    gated = widen[0] != "mlp.fc1"
    hidden = sum(shapes.get(f"blocks.0.{name}.weight", (0,))[0] for name in widen)
    registers = next((shapes[name][1] for name in REGISTERS if name in shapes), 0)
    rotary = PERIODS in shapes
    blocks = {int(found[1]) for name in shapes if (found := re.match(r"blocks\.(\d+)\.norm1\.weight", name))}
    side = DINOV3_SIZE // patch[0] if rotary else _stored_side(file)
    config: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": width,
            "depth": len(blocks),
            "heads": width // (4 * shapes[PERIODS][0] if rotary else HEAD_WIDTH),
            "mlp_width": hidden // 2 if gated else hidden,
            "patch": tuple(patch),
            "image_size": (side * patch[0], side * patch[1]),
            "classes": 0,
            "registers": registers,
            "position_embedding": _rotary(file) if rotary else _learned(registers),
            "block": {"layer_scale": True, "gated": gated, "qkv_bias": "blocks.0.attn.qkv.bias" in shapes},
            "gelu": "erf",
            "norm_eps": 1e-5 if rotary else 1e-6,
        }
    )
    return config


def _learned(registers: int) -> dict[str, Any]:
    """DINOv2's positions; hub/backbones.py resizes those of models with registers by another rule."""
    if registers:
        return {"learned": "class", "resize": "bicubic"}
    return {"learned": "all", "resize": "bicubic_offset"}


def _rotary(file: ArrayFile) -> dict[str, Any]:
    """DINOv3's positions: the stored periods are those of float32, or rounded to bfloat16."""
    stored = file.read(PERIODS)
    periods = BASE ** (torch.arange(len(stored), dtype=torch.float32) / len(stored))
    rounded = periods.bfloat16().float()
    if not torch.equal(stored, rounded) and not torch.allclose(stored, periods, rtol=1e-6, atol=0):
        raise WeightsError(
            f"{file.path}: {PERIODS!r} are not the periods of base {BASE:g}, so it is no published DINOv3"
        )
    return {"learned": "none", "rotary": {"base": BASE, "bfloat16": torch.equal(stored, rounded)}}


def _stored_side(file: ArrayFile) -> int:
    """Rows, and columns, of patches that have a stored position."""
    count = file.shapes.get(POSITIONS, (1, 1))[1] - 1
    side = math.isqrt(count)
    if side * side != count or not side:
        raise WeightsError(f"{file.path}: {POSITIONS!r} has {count} positions of patches, which make no square")
    return side
