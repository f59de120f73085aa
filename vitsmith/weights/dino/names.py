"""The names of the authors' arrays, as a table: their name -> the slot in our model it fills.

Source: `DinoVisionTransformer` in models/vision_transformer.py of facebookresearch/dinov2 and facebookresearch/dinov3.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from vitsmith.arrays import Shape
from vitsmith.models.config import ViTConfig
from vitsmith.weights.layouts import Layout, Same, Slot

PATCHES, SCALE, MASK = "patch_embed.proj.weight", "blocks.0.ls1.gamma", "mask_token"
"""Arrays that together only these files have."""
REGISTERS = ("register_tokens", "storage_tokens")
"""Names of the registers in DINOv2 and in DINOv3."""
POSITIONS, PERIODS, BIAS_MASK = "pos_embed", "rope_embed.periods", ".attn.qkv.bias_mask"
WIDEN = (("mlp.fc1",), ("mlp.w12",), ("mlp.w1", "mlp.w2"))
"""The first layer of an MLP, of a gated one with gate and value together, and of one with both apart."""

SAME = Same()

Slots = Iterator[tuple[str, Slot]]


@dataclass(frozen=True, eq=False)
class Masked:
    """The bias of queries, keys and values, which DINOv3 multiplies by a mask. It is read only."""

    mask: Tensor

    def foreign_shape(self, our_shape: Shape) -> Shape:
        return our_shape

    def ours_from_foreign(self, array: Tensor) -> Tensor:
        return array * self.mask

    def foreign_from_ours(self, array: Tensor) -> Tensor:
        return array


def widen_of(names: Mapping[str, Shape]) -> tuple[str, ...]:
    """The names of the first layer of a file's MLPs."""
    return next((row for row in WIDEN if f"blocks.0.{row[0]}.weight" in names), WIDEN[0])


def dino_slots(
    config: ViTConfig, *, names: Mapping[str, Shape], positions: Layout, masks: Mapping[str, Tensor]
) -> dict[str, Slot]:
    """All arrays of a model by the authors' names; `masks` are those of the biases, by the name of the bias."""
    return dict(_arrays(config, names, positions, masks))


def _arrays(config: ViTConfig, names: Mapping[str, Shape], positions: Layout, masks: Mapping[str, Tensor]) -> Slots:
    widen = widen_of(names)
    yield "cls_token", Slot("class_token", SAME)
    if config.registers:
        yield next(name for name in REGISTERS if name in names), Slot("registers", SAME)
    if config.position_embedding.learned != "none":
        yield POSITIONS, Slot("positions.embedding", positions)
    yield from _weight_and_bias("patch_embed.proj", "patches.projection")
    for block in (f"blocks.{index}" for index in range(config.depth)):
        yield from _weight_and_bias(f"{block}.norm1", f"{block}.norm1")
        yield f"{block}.attn.qkv.weight", Slot(f"{block}.attention.qkv.weight", SAME)
        if config.block.qkv_bias:
            bias = f"{block}.attn.qkv.bias"
            yield bias, Slot(f"{block}.attention.qkv.bias", Masked(masks[bias]) if bias in masks else SAME)
        yield from _weight_and_bias(f"{block}.attn.proj", f"{block}.attention.out")
        yield f"{block}.ls1.gamma", Slot(f"{block}.scale1.factors", SAME)
        yield from _weight_and_bias(f"{block}.norm2", f"{block}.norm2")
        for part, name in enumerate(widen):
            for kind in ("weight", "bias"):
                yield f"{block}.{name}.{kind}", Slot(f"{block}.mlp.widen.{kind}", SAME, part, len(widen))
        yield from _weight_and_bias(f"{block}.mlp.{'w3' if config.block.gated else 'fc2'}", f"{block}.mlp.narrow")
        yield f"{block}.ls2.gamma", Slot(f"{block}.scale2.factors", SAME)
    yield from _weight_and_bias("norm", "norm")


def _weight_and_bias(theirs: str, ours: str) -> Slots:
    for kind in ("weight", "bias"):
        yield f"{theirs}.{kind}", Slot(f"{ours}.{kind}", SAME)
