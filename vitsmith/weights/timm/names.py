"""The names of timm's arrays, as tables: timm name -> the slot in our model it fills.

Sources: timm 1.0.31, models/vision_transformer.py, deit.py, eva.py, vision_transformer_hybrid.py, resnetv2.py and
mlp_mixer.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Self

from vitsmith.models.config import ImageModelConfig, MixerConfig, ResNetConfig, ViTConfig
from vitsmith.weights.layouts import Layout, Same, Slot
from vitsmith.weights.timm.rotary_pairs import NeighbourPairs

SAME = Same()

Slots = Iterator[tuple[str, Slot]]


@dataclass(frozen=True)
class Naming:
    """How the arrays of a block are named and cut, which differs from file to file."""

    qkv: Literal["packed", "without key bias", "separate"] = "packed"
    """Queries, keys and values in one matrix; that with `q_bias` and `v_bias` beside it; or three matrices."""
    scale: Literal["ls{}.gamma", "gamma_{}"] = "ls{}.gamma"
    gate_apart: bool = False
    """Gate and value of a gated MLP are two matrices."""
    key_bias: bool = True
    out_bias: bool = True
    """The last layer of attention, and all of the MLP, have biases."""

    @classmethod
    def of(cls, names: Collection[str]) -> Self:
        """That of the first block of a file with arrays `names`."""
        block, attention = "blocks.0", "blocks.0.attn"
        separate, apart = f"{attention}.q_proj.weight" in names, f"{attention}.q_bias" in names
        return cls(
            qkv="separate" if separate else "without key bias" if apart else "packed",
            scale="gamma_{}" if f"{block}.gamma_1" in names else "ls{}.gamma",
            gate_apart=f"{block}.mlp.fc1_g.weight" in names,
            out_bias=f"{attention}.proj.bias" in names,
            key_bias=f"{attention}.k_proj.bias" in names if separate else not apart,
        )


def timm_slots(config: ImageModelConfig, naming: Naming = Naming()) -> dict[str, Slot]:
    """All arrays of a ViT or Mixer by timm's name."""
    return dict(_mixer(config) if isinstance(config, MixerConfig) else _vit(config, naming))


def timm_zeros(config: ImageModelConfig, naming: Naming) -> tuple[Slot, ...]:
    """What timm's file leaves out because it is zero: biases of the keys of EVA-02 and others, and those of AIMv2."""
    if not isinstance(config, ViTConfig):
        return ()
    zeros = []
    if config.block.qkv_bias and not naming.key_bias:
        zeros.append(("attention.qkv.bias", 1, 3))
    if not naming.out_bias:
        zeros += [(f"{layer}.bias", 0, 1) for layer in ("attention.out", "mlp.widen", "mlp.narrow")]
    blocks = range(config.depth)
    return tuple(Slot(f"blocks.{index}.{name}", SAME, part, parts) for index in blocks for name, part, parts in zeros)


def _vit(config: ViTConfig, naming: Naming) -> Slots:
    if config.class_token:
        yield "cls_token", Slot("class_token", SAME)
    if config.distillation_token:
        yield "dist_token", Slot("distillation_token", SAME)
    if config.registers:
        yield "reg_token", Slot("registers", SAME)
    if config.position_embedding.learned != "none":
        yield "pos_embed", Slot("positions.embedding", SAME)
    if config.resnet:
        yield from _resnet(config.resnet)
    yield from _linear("patch_embed.proj", "patches.projection", bias=config.patch_bias)
    norm_bias = config.norm == "layer"
    if config.patch_norm:
        yield from _linear("patch_embed.norm", "patch_norm", bias=norm_bias)
    if config.norm_before:
        yield from _linear("norm_pre", "norm_before", bias=norm_bias)
    for index in range(config.depth):
        yield from _block(f"blocks.{index}", config, naming)
    if config.final_norm:
        yield from _linear("fc_norm" if config.norm_after_pooling else "norm", "norm", bias=norm_bias)
    if config.attention_pool:
        yield "attn_pool.latent", Slot("attention_pool.probe", SAME)
        for theirs, ours in (("q", "query"), ("kv", "key_value"), ("proj", "out"), ("norm", "norm")):
            yield from _linear(f"attn_pool.{theirs}", f"attention_pool.{ours}")
        yield from _mlp("attn_pool.mlp", "attention_pool.mlp")
    if config.representation:
        yield from _linear("pre_logits.fc", "representation.0")
    if config.classes:
        yield from _linear("head", "head", bias=config.head_bias)
    if config.classes and config.distillation_token:
        yield from _linear("head_dist", "distillation_head")


def _block(block: str, config: ViTConfig, naming: Naming) -> Slots:
    parts, norm_bias, bias = config.block, config.norm == "layer", naming.out_bias
    yield from _linear(f"{block}.norm1", f"{block}.norm1", bias=norm_bias)
    yield from _attention(block, config, naming)
    yield from _linear(f"{block}.norm2", f"{block}.norm2", bias=norm_bias)
    if parts.gated and naming.gate_apart:
        for part, theirs in enumerate(("fc1_g", "fc1_x")):
            yield from _linear(f"{block}.mlp.{theirs}", f"{block}.mlp.widen", bias=bias, part=part, parts=2)
    else:
        yield from _linear(f"{block}.mlp.fc1", f"{block}.mlp.widen", bias=bias)
    if parts.mlp_norm:
        yield from _linear(f"{block}.mlp.norm", f"{block}.mlp.norm")
    yield from _linear(f"{block}.mlp.fc2", f"{block}.mlp.narrow", bias=bias)
    if parts.layer_scale:
        for number in (1, 2):
            yield f"{block}.{naming.scale.format(number)}", Slot(f"{block}.scale{number}.factors", SAME)


def _attention(block: str, config: ViTConfig, naming: Naming) -> Slots:
    theirs, ours = f"{block}.attn", f"{block}.attention"
    rotary = config.position_embedding.rotary
    turned = NeighbourPairs(config.heads) if rotary and rotary.places == "index" else SAME  # DINOv3's are as here
    if naming.qkv == "separate":
        for part, letter in enumerate("qkv"):
            layout = SAME if letter == "v" else turned
            bias = config.block.qkv_bias and (letter != "k" or naming.key_bias)
            yield from _linear(f"{theirs}.{letter}_proj", f"{ours}.qkv", bias=bias, layout=layout, part=part, parts=3)
    else:
        packed = replace(turned, packed=True) if isinstance(turned, NeighbourPairs) else turned
        bias = config.block.qkv_bias and naming.qkv == "packed"
        yield from _linear(f"{theirs}.qkv", f"{ours}.qkv", bias=bias, layout=packed)
        if naming.qkv == "without key bias":
            yield f"{theirs}.q_bias", Slot(f"{ours}.qkv.bias", turned, 0, 3)
            yield f"{theirs}.v_bias", Slot(f"{ours}.qkv.bias", SAME, 2, 3)
    if config.block.qk_norm:
        head = replace(turned, heads=1) if isinstance(turned, NeighbourPairs) else turned
        yield from _linear(f"{theirs}.q_norm", f"{ours}.query_norm", layout=head)
        yield from _linear(f"{theirs}.k_norm", f"{ours}.key_norm", layout=head)
    if config.block.attention_norm:
        yield from _linear(f"{theirs}.norm", f"{ours}.norm")
    yield from _linear(f"{theirs}.proj", f"{ours}.out", bias=naming.out_bias)


def _resnet(config: ResNetConfig) -> Slots:
    root = "patch_embed.backbone.stem" if config.stages else "patch_embed.backbone"
    yield f"{root}.conv.weight", Slot("resnet.root.weight", SAME)
    yield from _linear(f"{root}.norm", "resnet.root_norm")
    for stage, units in enumerate(config.stages):
        for unit in range(units):
            theirs, ours = f"patch_embed.backbone.stages.{stage}.blocks.{unit}", f"resnet.stages.{stage}.{unit}"
            if unit == 0:
                yield f"{theirs}.downsample.conv.weight", Slot(f"{ours}.projection.weight", SAME)
                yield from _linear(f"{theirs}.downsample.norm", f"{ours}.projection_norm")
            for number in (1, 2, 3):
                yield f"{theirs}.conv{number}.weight", Slot(f"{ours}.conv{number}.weight", SAME)
                yield from _linear(f"{theirs}.norm{number}", f"{ours}.norm{number}")


def _mixer(config: MixerConfig) -> Slots:
    yield from _linear("stem.proj", "patches.projection")
    for index in range(config.depth):
        block = f"blocks.{index}"
        yield from _linear(f"{block}.norm1", f"{block}.norm1")
        yield from _mlp(f"{block}.mlp_tokens", f"{block}.token_mixing")
        yield from _linear(f"{block}.norm2", f"{block}.norm2")
        yield from _mlp(f"{block}.mlp_channels", f"{block}.channel_mixing")
    yield from _linear("norm", "norm")
    if config.classes:
        yield from _linear("head", "head")


def _mlp(theirs: str, ours: str) -> Slots:
    yield from _linear(f"{theirs}.fc1", f"{ours}.widen")
    yield from _linear(f"{theirs}.fc2", f"{ours}.narrow")


def _linear(
    theirs: str, ours: str, *, bias: bool = True, layout: Layout = SAME, part: int = 0, parts: int = 1
) -> Slots:
    """The weight, and the bias if there is one, of a linear layer, a convolution or a norm."""
    for kind in ("weight", "bias") if bias else ("weight",):
        yield f"{theirs}.{kind}", Slot(f"{ours}.{kind}", layout, part, parts)
