"""The names of timm's arrays, as tables: timm name -> the slot in our model it fills.

Sources: timm 1.0.31, models/vision_transformer.py, models/deit.py and models/mlp_mixer.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.models.config import ImageModelConfig, MixerConfig, ViTConfig
from vitsmith.weights.layouts import Layout, Same, Slot

SAME = Same()

Slots = Iterator[tuple[str, Slot]]


class PatchPositions:
    """timm's `no_embed_class`: (1, patches, width) there, (1, 1 + patches, width) here, zero for the class token."""

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape[0], our_shape[1] - 1, our_shape[2]

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(array[:, :1]), array], dim=1)

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array[:, 1:]


def timm_slots(config: ImageModelConfig, *, class_position: bool = True) -> dict[str, Slot]:
    """All arrays of a ViT or Mixer by timm's name.

    `class_position=False` is timm's `no_embed_class`: no position embedding for the class token.
    """
    if isinstance(config, MixerConfig):
        return dict(_mixer(config))
    return dict(_vit(config, SAME if class_position or not config.class_token else PatchPositions()))


def _vit(config: ViTConfig, positions: Layout) -> Slots:
    if config.class_token:
        yield "cls_token", Slot("class_token", SAME)
    if config.distillation_token:
        yield "dist_token", Slot("distillation_token", SAME)
    yield "pos_embed", Slot("positions.embedding", positions)
    yield from _weight_and_bias("patch_embed.proj", "patches.projection")
    for index in range(config.depth):
        block = f"blocks.{index}"
        yield from _weight_and_bias(f"{block}.norm1", f"{block}.norm1")
        yield from _weight_and_bias(f"{block}.attn.qkv", f"{block}.attention.qkv")
        yield from _weight_and_bias(f"{block}.attn.proj", f"{block}.attention.out")
        yield from _weight_and_bias(f"{block}.norm2", f"{block}.norm2")
        yield from _mlp(f"{block}.mlp", f"{block}.mlp")
    yield from _weight_and_bias("fc_norm" if config.norm_after_pooling else "norm", "norm")
    if config.representation:
        yield from _weight_and_bias("pre_logits.fc", "representation.0")
    if config.classes:
        yield from _weight_and_bias("head", "head")
    if config.classes and config.distillation_token:
        yield from _weight_and_bias("head_dist", "distillation_head")


def _mixer(config: MixerConfig) -> Slots:
    yield from _weight_and_bias("stem.proj", "patches.projection")
    for index in range(config.depth):
        block = f"blocks.{index}"
        yield from _weight_and_bias(f"{block}.norm1", f"{block}.norm1")
        yield from _mlp(f"{block}.mlp_tokens", f"{block}.token_mixing")
        yield from _weight_and_bias(f"{block}.norm2", f"{block}.norm2")
        yield from _mlp(f"{block}.mlp_channels", f"{block}.channel_mixing")
    yield from _weight_and_bias("norm", "norm")
    if config.classes:
        yield from _weight_and_bias("head", "head")


def _mlp(theirs: str, ours: str) -> Slots:
    yield from _weight_and_bias(f"{theirs}.fc1", f"{ours}.widen")
    yield from _weight_and_bias(f"{theirs}.fc2", f"{ours}.narrow")


def _weight_and_bias(theirs: str, ours: str) -> Slots:
    for kind in ("weight", "bias"):
        yield f"{theirs}.{kind}", Slot(f"{ours}.{kind}", SAME)
