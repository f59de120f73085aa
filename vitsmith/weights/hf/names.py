"""The names of HF's arrays, as tables: HF name -> the slot in our model it fills.

Several namings of the same layers exist. What `save_pretrained` writes, in all versions, comes first; the others are
what `model.state_dict()` has since transformers 5 (source: 5.24.0, models/*/modeling_*.py, conversion_mapping.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from vitsmith.models.config import ViTConfig
from vitsmith.models.parts import BlockConfig
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.weights.containers.divided import Piece
from vitsmith.weights.layouts import Layout, Same, Slot, WithoutLeading

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
    class_token: str = "embeddings.cls_token"
    class_token_layout: Layout = SAME
    positions: str = "embeddings.position_embeddings"
    positions_without: int = 0
    """Leading axes of length 1 that positions have here and not in the file."""


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
TOWERS = HFNaming(
    layers="encoder.layers",
    qkv=("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    out="self_attn.out_proj",
    widen=("mlp.fc1",),
    narrow="mlp.fc2",
    norms=("layer_norm1", "layer_norm2"),
    patches="embeddings.patch_embedding",
    norm="post_layernorm",
    class_token="embeddings.class_embedding",
    class_token_layout=WithoutLeading(2),
    positions="embeddings.position_embedding.weight",
    positions_without=1,
)
"""CLIP and SigLIP: both towers have the same names."""
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
    TOWERS,
)

PATCHES = f"{RELEASED.patches}.weight"
"""What only an image model of HF has, whatever stands before it."""

PATCHES_ALONE = f"{_DINOV3.patches}.weight"
"""What only a DINOv3 of HF has when nothing stands before it."""

TOWER_PATCHES = f"{TOWERS.patches}.weight"
"""What only an image tower of CLIP's or SigLIP's shape has in HF's names, whatever stands before it."""

WORDS = "embeddings.token_embedding.weight"
"""What only a text tower has in HF's names, whatever stands before it."""

HEADS = {"classifier": "head", "cls_classifier": "head", "distillation_classifier": "distillation_head"}
"""Names of heads; `classifier`, or the other two together."""

PROJECTION = "visual_projection"
"""The name of a head that projects to the embedding that images and texts share."""


def prefix_of(names: frozenset[str]) -> str:
    """What stands before all names but the heads': 'vit.' in a ViTForImageClassification, '' in a bare ViTModel."""
    for patches in (PATCHES, TOWER_PATCHES):
        for name in sorted(names):
            if name.endswith(patches):
                return name.removesuffix(patches)
    return ""


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
            slots.update(_weight_and_bias(head, HEADS.get(head, "head"), bias=config.head_bias))
    return slots


def hf_pieces(config: ViTConfig, prefix: str) -> dict[str, Piece]:
    """Query, key and value of attention pooling, each a third of an array."""
    if config.attention_pool is None:
        return {}
    return {
        f"{prefix}{_third(third, kind)}": Piece(f"{prefix}{_packed(kind)}", at, len(_THIRDS))
        for kind in ("weight", "bias")
        for at, (third, *_) in enumerate(_THIRDS)
    }


def hf_text_slots(config: TextTransformerConfig, projection: str) -> dict[str, Slot]:
    """All arrays of a text tower by HF name. `projection` is the name of its head."""
    slots = {f"text_model.{name}": slot for name, slot in _text_encoder(config)}
    if config.classes:
        slots.update(_weight_and_bias(projection, "head", bias=config.head_bias))
    return slots


def _text_encoder(config: TextTransformerConfig) -> Slots:
    yield WORDS, Slot("words.weight", SAME)
    yield TOWERS.positions, Slot("positions.embedding", WithoutLeading(TOWERS.positions_without))
    for index in range(config.depth):
        yield from _layer(BlockConfig(), TOWERS, f"{TOWERS.layers}.{index}", f"blocks.{index}")
    yield from _weight_and_bias("final_layer_norm", "norm")


def _encoder(config: ViTConfig, naming: HFNaming, positions: Layout) -> Slots:
    if config.class_token:
        yield naming.class_token, Slot("class_token", naming.class_token_layout)
    if config.registers:
        second = config.position_embedding.learned == "all"  # DeiT's, where it has no head
        yield f"embeddings.{'distillation_token' if second else 'register_tokens'}", Slot("registers", SAME)
    if config.distillation_token:
        yield "embeddings.distillation_token", Slot("distillation_token", SAME)
    if config.position_embedding.learned != "none":
        yield naming.positions, Slot("positions.embedding", WithoutLeading(naming.positions_without, positions))
    yield from _weight_and_bias(naming.patches, "patches.projection", bias=config.patch_bias)
    if config.norm_before:
        yield from _weight_and_bias("pre_layrnorm", "norm_before")
    for index in range(config.depth):
        yield from _layer(config.block, naming, f"{naming.layers}.{index}", f"blocks.{index}")
    if config.final_norm:
        yield from _weight_and_bias(naming.norm, "norm")
    if config.attention_pool:
        yield from _attention_pool()
    if config.representation:
        yield from _weight_and_bias("pooler.dense", "representation.0")


def _layer(block: BlockConfig, naming: HFNaming, theirs: str, ours: str) -> Slots:
    for number, norm in enumerate(naming.norms, start=1):
        yield from _weight_and_bias(f"{theirs}.{norm}", f"{ours}.norm{number}")
        if block.layer_scale:
            yield f"{theirs}.layer_scale{number}.lambda1", Slot(f"{ours}.scale{number}.factors", SAME)
    for part, name in enumerate(naming.qkv):
        for kind in ("weight", "bias") if block.qkv_bias else ("weight",):
            yield f"{theirs}.{name}.{kind}", Slot(f"{ours}.attention.qkv.{kind}", SAME, part, 3)
    yield from _weight_and_bias(f"{theirs}.{naming.out}", f"{ours}.attention.out")
    for part, name in enumerate(naming.widen):
        for kind in ("weight", "bias"):
            yield f"{theirs}.{name}.{kind}", Slot(f"{ours}.mlp.widen.{kind}", SAME, part, len(naming.widen))
    yield from _weight_and_bias(f"{theirs}.{naming.narrow}", f"{ours}.mlp.narrow")


_POOL = "head"
_THIRDS = (("query", "query", 0, 1), ("key", "key_value", 0, 2), ("value", "key_value", 1, 2))
"""The thirds of the packed arrays of attention pooling, and which part of which layer of ours each is."""


def _attention_pool() -> Slots:
    yield f"{_POOL}.probe", Slot("attention_pool.probe", SAME)
    for kind in ("weight", "bias"):
        for third, layer, part, parts in _THIRDS:
            yield _third(third, kind), Slot(f"attention_pool.{layer}.{kind}", SAME, part, parts)
    yield from _weight_and_bias(f"{_POOL}.attention.out_proj", "attention_pool.out")
    yield from _weight_and_bias(f"{_POOL}.layernorm", "attention_pool.norm")
    yield from _weight_and_bias(f"{_POOL}.mlp.fc1", "attention_pool.mlp.widen")
    yield from _weight_and_bias(f"{_POOL}.mlp.fc2", "attention_pool.mlp.narrow")


def _packed(kind: str) -> str:
    return f"{_POOL}.attention.in_proj_{kind}"


def _third(third: str, kind: str) -> str:
    """Our name of a third of a packed array: the file has none."""
    return f"{_packed(kind)} ({third})"


def _weight_and_bias(theirs: str, ours: str, *, bias: bool = True) -> Slots:
    for kind in ("weight", "bias") if bias else ("weight",):
        yield f"{theirs}.{kind}", Slot(f"{ours}.{kind}", SAME)
