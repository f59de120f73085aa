"""The names of HF's ViT arrays, as tables: HF name -> the slot in our model it fills.

Two namings of the same layers exist. RELEASED is what `save_pretrained` writes, in all versions; MODULES is what
`model.state_dict()` has since transformers 5 (source: 5.23.0, models/vit/modeling_vit.py, conversion_mapping.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vitsmith.models.config import ViTConfig
from vitsmith.weights.layouts import Same, Slot

PATCHES = "embeddings.patch_embeddings.projection.weight"
"""What only a ViT of HF has, whatever stands before it."""

SAME = Same()

Slots = Iterator[tuple[str, Slot]]


@dataclass(frozen=True)
class LayerNaming:
    """Names of the linear layers of an encoder layer, and of the list the layers are in."""

    layers: str
    qkv: tuple[str, str, str]
    out: str
    widen: str
    narrow: str


RELEASED = LayerNaming(
    layers="encoder.layer",
    qkv=("attention.attention.query", "attention.attention.key", "attention.attention.value"),
    out="attention.output.dense",
    widen="intermediate.dense",
    narrow="output.dense",
)
MODULES = LayerNaming(
    layers="layers",
    qkv=("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    out="attention.o_proj",
    widen="mlp.fc1",
    narrow="mlp.fc2",
)


def naming_of(names: set[str]) -> LayerNaming:
    """Which of the two namings a file's array names use."""
    return MODULES if any(".q_proj." in name for name in names) else RELEASED


def prefix_of(names: set[str]) -> str:
    """'vit.' in a ViTForImageClassification, '' in a bare ViTModel."""
    return "vit." if any(name.startswith("vit.") for name in names) else ""


def hf_slots(config: ViTConfig, naming: LayerNaming = RELEASED, prefix: str = "vit.") -> dict[str, Slot]:
    """All arrays of a ViT by HF name. A `representation` is a bare ViTModel's pooler."""
    slots = {f"{prefix}{name}": slot for name, slot in _encoder(config, naming)}
    if config.classes:
        slots.update(_weight_and_bias("classifier", "head"))
    return slots


def _encoder(config: ViTConfig, naming: LayerNaming) -> Slots:
    yield "embeddings.cls_token", Slot("class_token", SAME)
    yield "embeddings.position_embeddings", Slot("positions.embedding", SAME)
    yield from _weight_and_bias("embeddings.patch_embeddings.projection", "patches.projection")
    for index in range(config.depth):
        theirs, ours = f"{naming.layers}.{index}", f"blocks.{index}"
        yield from _weight_and_bias(f"{theirs}.layernorm_before", f"{ours}.norm1")
        for part, name in enumerate(naming.qkv):
            for kind in ("weight", "bias"):
                yield f"{theirs}.{name}.{kind}", Slot(f"{ours}.attention.qkv.{kind}", SAME, part, 3)
        yield from _weight_and_bias(f"{theirs}.{naming.out}", f"{ours}.attention.out")
        yield from _weight_and_bias(f"{theirs}.layernorm_after", f"{ours}.norm2")
        yield from _weight_and_bias(f"{theirs}.{naming.widen}", f"{ours}.mlp.widen")
        yield from _weight_and_bias(f"{theirs}.{naming.narrow}", f"{ours}.mlp.narrow")
    yield from _weight_and_bias("layernorm", "norm")
    if config.representation:
        yield from _weight_and_bias("pooler.dense", "representation.0")


def _weight_and_bias(theirs: str, ours: str) -> Slots:
    for kind in ("weight", "bias"):
        yield f"{theirs}.{kind}", Slot(f"{ours}.{kind}", SAME)
