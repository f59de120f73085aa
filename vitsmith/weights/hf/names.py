"""The names of HF's arrays, as tables: HF name -> the slot in our model it fills.

Several namings of the same layers exist. What `save_pretrained` writes, in all versions, comes first; the others are
what `model.state_dict()` has since transformers 5 (source: 5.24.0, models/*/modeling_*.py, conversion_mapping.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vitsmith.models.config import ViTConfig
from vitsmith.weights.layouts import Layout, Same, Slot

SAME = Same()

Slots = Iterator[tuple[str, Slot]]


@dataclass(frozen=True)
class HFNaming:
    """The list that the layers are in, the names within a layer, and those of the first and last layers."""

    layers: str
    qkv: tuple[str, str, str]
    out: str
    widen: tuple[str, ...]
    """One name, or two where the gate of a gated MLP, which comes first, is apart from the value."""
    narrow: str
    norms: tuple[str, str]
    patches: str = "embeddings.patch_embeddings.projection"
    norm: str = "layernorm"


RELEASED = HFNaming(
    layers="encoder.layer",
    qkv=("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    out="attention.output.dense",
    widen=("intermediate.dense",),
    narrow="output.dense",
    norms=("layernorm_before", "layernorm_after"),
)
MODULES = HFNaming(
    layers="layers",
    qkv=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    out="attention.o_proj",
    widen=("mlp.fc1",),
    narrow="mlp.fc2",
    norms=("layernorm_before", "layernorm_after"),
)
_DINOV2 = replace(RELEASED, widen=("mlp.fc1",), narrow="mlp.fc2", norms=("norm1", "norm2"))
_DINOV2_GATED = replace(_DINOV2, widen=("mlp.weights_in",), narrow="mlp.weights_out")
_DINOV2_MODULES = replace(_DINOV2, qkv=MODULES.qkv, out=MODULES.out)
_DINOV2_GATED_MODULES = replace(_DINOV2_MODULES, widen=("mlp.gate_proj", "mlp.up_proj"), narrow="mlp.down_proj")
_DINOV3_GATED = replace(_DINOV2_GATED_MODULES, layers="layer", patches="embeddings.patch_embeddings", norm="norm")
_DINOV3 = replace(_DINOV3_GATED, widen=("mlp.up_proj",))
NAMINGS = (
    RELEASED,
    MODULES,
    _DINOV2,
    _DINOV2_GATED,
    _DINOV2_MODULES,
    _DINOV2_GATED_MODULES,
    _DINOV3,
    _DINOV3_GATED,
    replace(_DINOV3, layers="model.layer"),
    replace(_DINOV3_GATED, layers="model.layer"),
)

PATCHES = f"{RELEASED.patches}.weight"
"""What only an image model of HF has, whatever stands before it."""

PATCHES_ALONE = f"{_DINOV3.patches}.weight"
"""What only a DINOv3 of HF has when nothing stands before it."""

HEADS = {"classifier": "head", "cls_classifier": "head", "distillation_classifier": "distillation_head"}
"""Names of heads; `classifier`, or the other two together."""


def prefix_of(names: frozenset[str]) -> str:
    """What stands before all names but the heads': 'vit.' in a ViTForImageClassification, '' in a bare ViTModel."""
    return next((name.removesuffix(PATCHES) for name in sorted(names) if name.endswith(PATCHES)), "")


def naming_of(names: frozenset[str], prefix: str) -> HFNaming:
    """The naming that has the patch embedding, and most of the first layer's weights, in a file."""

    def found(naming: HFNaming) -> tuple[bool, int]:
        layers = (*naming.qkv, naming.out, *naming.widen, naming.narrow, *naming.norms)
        count = sum(f"{prefix}{naming.layers}.0.{layer}.weight" in names for layer in layers)
        return f"{prefix}{naming.patches}.weight" in names, count

    return max(NAMINGS, key=found)


def hf_slots(
    config: ViTConfig,
    naming: HFNaming = RELEASED,
    prefix: str = "vit.",
    *,
    positions: Layout = SAME,
    heads: tuple[str, ...] = ("classifier",),
) -> dict[str, Slot]:
    """All arrays of a model by HF name. A `representation` is a bare model's pooler.

    `positions` is the layout of the position embedding; `heads` are the names of heads in the file.
    """
    slots = {f"{prefix}{name}": slot for name, slot in _encoder(config, naming, positions)}
    if config.classes:
        for head in heads:
            slots.update(_weight_and_bias(head, HEADS[head]))
    return slots


def _encoder(config: ViTConfig, naming: HFNaming, positions: Layout) -> Slots:
    yield "embeddings.cls_token", Slot("class_token", SAME)
    if config.registers:
        second = config.position_embedding.learned == "all"  # DeiT's, where it has no head
        yield f"embeddings.{'distillation_token' if second else 'register_tokens'}", Slot("registers", SAME)
    if config.distillation_token:
        yield "embeddings.distillation_token", Slot("distillation_token", SAME)
    if config.position_embedding.learned != "none":
        yield "embeddings.position_embeddings", Slot("positions.embedding", positions)
    yield from _weight_and_bias(naming.patches, "patches.projection")
    for index in range(config.depth):
        yield from _layer(config, naming, f"{naming.layers}.{index}", f"blocks.{index}")
    yield from _weight_and_bias(naming.norm, "norm")
    if config.representation:
        yield from _weight_and_bias("pooler.dense", "representation.0")


def _layer(config: ViTConfig, naming: HFNaming, theirs: str, ours: str) -> Slots:
    for number, norm in enumerate(naming.norms, start=1):
        yield from _weight_and_bias(f"{theirs}.{norm}", f"{ours}.norm{number}")
        if config.block.layer_scale:
            yield f"{theirs}.layer_scale{number}.lambda1", Slot(f"{ours}.scale{number}.factors", SAME)
    for part, name in enumerate(naming.qkv):
        for kind in ("weight", "bias") if config.block.qkv_bias else ("weight",):
            yield f"{theirs}.{name}.{kind}", Slot(f"{ours}.attention.qkv.{kind}", SAME, part, 3)
    yield from _weight_and_bias(f"{theirs}.{naming.out}", f"{ours}.attention.out")
    for part, name in enumerate(naming.widen):
        for kind in ("weight", "bias"):
            yield f"{theirs}.{name}.{kind}", Slot(f"{ours}.mlp.widen.{kind}", SAME, part, len(naming.widen))
    yield from _weight_and_bias(f"{theirs}.{naming.narrow}", f"{ours}.mlp.narrow")


def _weight_and_bias(theirs: str, ours: str) -> Slots:
    for kind in ("weight", "bias"):
        yield f"{theirs}.{kind}", Slot(f"{ours}.{kind}", SAME)
