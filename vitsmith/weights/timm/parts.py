"""What the names and shapes of timm's arrays show: the parts of a model and their sizes."""

from __future__ import annotations

import re
from collections import defaultdict

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.models.config import ResNetConfig, show_size
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.unsupported import check_channels

POSITIONS, PATCHES, STEM = "pos_embed", "patch_embed.proj.weight", "stem.proj.weight"
PATCH_NORM = "patch_embed.norm.weight"

_ATTENTION, _MLP = "blocks.0.attn", "blocks.0.mlp"
_FRONT = "patch_embed.backbone"
_UNIT = re.compile(rf"{re.escape(_FRONT)}\.stages\.(\d)\.blocks\.(\d{{1,3}})\.conv1\.weight")


def shape_of(file: ArrayFile, name: str, axes: int) -> Shape:
    """Raises WeightsError when the array is missing, or has another number of axes."""
    if name not in file.shapes:
        raise WeightsError(f"{file.path}: array {name!r} is missing: not one of timm's plain ViTs or Mixers")
    if len(file.shapes[name]) != axes:
        raise WeightsError(f"{file.path}: array {name!r} is {show_size(file.shapes[name])}, expected {axes} axes")
    return file.shapes[name]


def depth_of(file: ArrayFile) -> int:
    """The number of blocks. Raises WeightsError when there is a gap between them."""
    found = {int(match[1]) for name in file.shapes if (match := re.match(r"blocks\.(\d{1,6})\.", name))}
    last = max(found, default=-1)
    if len(found) != last + 1:
        raise WeightsError(f"{file.path}: has block {last} but not all the blocks before it: the file is incomplete")
    return last + 1


def tokens_of(file: ArrayFile) -> dict[str, int]:
    """The tokens before the patches, by the names of our fields."""
    return {
        "class_token": "cls_token" in file.shapes,
        "distillation_token": "dist_token" in file.shapes,
        "registers": shape_of(file, "reg_token", 3)[1] if "reg_token" in file.shapes else 0,
    }


def block_of(file: ArrayFile) -> dict[str, bool]:
    """The fields of the first block's BlockConfig."""
    return {
        "layer_scale": "blocks.0.ls1.gamma" in file.shapes or "blocks.0.gamma_1" in file.shapes,
        "qkv_bias": any(f"{_ATTENTION}.{bias}" in file.shapes for bias in ("qkv.bias", "q_bias", "q_proj.bias")),
        "qk_norm": f"{_ATTENTION}.q_norm.weight" in file.shapes,
        "attention_norm": f"{_ATTENTION}.norm.weight" in file.shapes,
        "gated": is_gated(file),
        "mlp_norm": f"{_MLP}.norm.weight" in file.shapes,
    }


def is_gated(file: ArrayFile) -> bool:
    """Whether the MLP has a gate: an array of its own, or half of one that is twice as wide as the values."""
    if f"{_MLP}.fc1_g.weight" in file.shapes:
        return True
    return shape_of(file, f"{_MLP}.fc1.weight", 2)[0] == 2 * mlp_width_of(file)


def mlp_width_of(file: ArrayFile) -> int:
    """Width of the last layer's input."""
    return shape_of(file, f"{_MLP}.fc2.weight", 2)[1]


def resnet_of(file: ArrayFile) -> ResNetConfig | None:
    """The convolutional front of a hybrid, if it has one, with timm's arithmetic (its models/resnetv2.py).

    Raises WeightsError unless it takes RGB images.
    """
    stem = next((name for name in (f"{_FRONT}.stem.conv.weight", f"{_FRONT}.conv.weight") if name in file.shapes), None)
    check_channels(file, stem or PATCHES)
    if stem is None:
        return None
    units: dict[int, set[int]] = defaultdict(set)
    for unit in filter(None, map(_UNIT.fullmatch, file.shapes)):
        units[int(unit[1])].add(int(unit[2]))
    stages = tuple(len(units[stage]) for stage in sorted(units))
    width_factor = file.shapes[stem][0] / 64
    return ResNetConfig(stages=stages, width_factor=width_factor, norm_eps=1e-5, divisor="variance")
