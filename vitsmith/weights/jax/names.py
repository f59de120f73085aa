"""The names of Google's released arrays, as tables: JAX name -> the slot in our model it fills.

Inside `encoderblock_N` two namings of the same thing exist in released files. FLAX_PRE_LINEN numbers all modules
together (the image models), FLAX_LINEN each kind for itself (LiT, and models saved by newer code). BIG_VISION has the
positions of an image tower in another place.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from vitsmith.models.config import LiTConfig, MixerConfig, ModelConfig, ViTConfig
from vitsmith.models.text_config import BertConfig, TextTransformerConfig
from vitsmith.weights.layouts import (
    Conv,
    Dense,
    GroupNormScale,
    HeadsBias,
    HeadsIn,
    HeadsOut,
    Layout,
    Same,
    Slot,
    within,
)

SAME, DENSE, CONV, GROUP_NORM = Same(), Dense(), Conv(), GroupNormScale()

Slots = Iterator[tuple[str, Slot]]


@dataclass(frozen=True)
class JaxNaming:
    """Names of the four parts of an encoder block, and of the learned positions of an image tower."""

    norm1: str
    attention: str
    norm2: str
    mlp: str
    positions: str = "Transformer/posembed_input/pos_embedding"


FLAX_PRE_LINEN = JaxNaming("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
FLAX_LINEN = JaxNaming("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")
BIG_VISION = replace(FLAX_LINEN, positions="pos_embedding")

SECOND_POSITIONS = "txt/Encoder_0/pos_embedding"
"""In some of big_vision's text towers: to be added to `txt/pos_embedding` (its text_transformer.py, `load`)."""


def naming_of(names: Collection[str]) -> JaxNaming:
    """The naming that a file's array names use."""
    if "img/pos_embedding" in names:
        return BIG_VISION
    new = any("/MultiHeadDotProductAttention_0/" in name and not name.startswith("txt/") for name in names)
    return FLAX_LINEN if new else FLAX_PRE_LINEN


def slots_of_file(config: ModelConfig, names: Collection[str]) -> dict[str, Slot]:
    """All arrays of a model by the names that a file has."""
    slots = jax_slots(config, naming_of(names))
    if SECOND_POSITIONS in names:
        slots[SECOND_POSITIONS] = Slot("text.positions.embedding", SAME, added=True)
    return slots


def jax_slots(config: ModelConfig, naming: JaxNaming | None = None) -> dict[str, Slot]:
    """All arrays of a model by JAX name. `naming` defaults to what the released file of that family has."""
    match config:
        case MixerConfig():
            return dict(_mixer(config))
        case LiTConfig():
            return dict(_lit(config, naming or FLAX_LINEN))
        case ViTConfig():
            return dict(_vit(config, naming or FLAX_PRE_LINEN))


def _vit(config: ViTConfig, naming: JaxNaming) -> Slots:
    if config.resnet:
        yield from _resnet(config.resnet.stages)
    yield from _kernel_and_bias("embedding", "patches.projection", CONV)
    if config.class_token:
        yield "cls", Slot("class_token", SAME)
    yield naming.positions, Slot("positions.embedding", SAME)
    yield from _encoder("Transformer", config.depth, config.heads, naming)
    if config.attention_pool:
        yield from _attention_pool(config.attention_pool.heads)
    if config.representation:
        yield from _kernel_and_bias("pre_logits", "representation.0", DENSE)
    if config.classes:
        yield from _kernel_and_bias("head", "head", DENSE)


def _encoder(prefix: str, depth: int, heads: int, naming: JaxNaming) -> Slots:
    for index in range(depth):
        theirs, ours = f"{prefix}/encoderblock_{index}", f"blocks.{index}"
        yield from _norm(f"{theirs}/{naming.norm1}", f"{ours}.norm1")
        yield from _attention(f"{theirs}/{naming.attention}", f"{ours}.attention", heads)
        yield from _norm(f"{theirs}/{naming.norm2}", f"{ours}.norm2")
        yield from _kernel_and_bias(f"{theirs}/{naming.mlp}/Dense_0", f"{ours}.mlp.widen", DENSE)
        yield from _kernel_and_bias(f"{theirs}/{naming.mlp}/Dense_1", f"{ours}.mlp.narrow", DENSE)
    yield from _norm(f"{prefix}/encoder_norm", "norm")


def _attention(theirs: str, ours: str, heads: int) -> Slots:
    for part, name in enumerate(("query", "key", "value")):
        yield f"{theirs}/{name}/kernel", Slot(f"{ours}.qkv.weight", HeadsIn(heads), part, 3)
        yield f"{theirs}/{name}/bias", Slot(f"{ours}.qkv.bias", HeadsBias(heads), part, 3)
    yield f"{theirs}/out/kernel", Slot(f"{ours}.out.weight", HeadsOut(heads))
    yield f"{theirs}/out/bias", Slot(f"{ours}.out.bias", SAME)


def _attention_pool(heads: int) -> Slots:
    attention = "MAPHead_0/MultiHeadDotProductAttention_0"
    yield "MAPHead_0/probe", Slot("attention_pool.probe", SAME)
    for name, ours, part, parts in (("query", "query", 0, 1), ("key", "key_value", 0, 2), ("value", "key_value", 1, 2)):
        yield f"{attention}/{name}/kernel", Slot(f"attention_pool.{ours}.weight", HeadsIn(heads), part, parts)
        yield f"{attention}/{name}/bias", Slot(f"attention_pool.{ours}.bias", HeadsBias(heads), part, parts)
    yield f"{attention}/out/kernel", Slot("attention_pool.out.weight", HeadsOut(heads))
    yield f"{attention}/out/bias", Slot("attention_pool.out.bias", SAME)
    yield from _norm("MAPHead_0/LayerNorm_0", "attention_pool.norm")
    yield from _kernel_and_bias("MAPHead_0/MlpBlock_0/Dense_0", "attention_pool.mlp.widen", DENSE)
    yield from _kernel_and_bias("MAPHead_0/MlpBlock_0/Dense_1", "attention_pool.mlp.narrow", DENSE)


def _resnet(stages: tuple[int, ...]) -> Slots:
    yield "conv_root/kernel", Slot("resnet.root.weight", CONV)
    yield from _norm("gn_root", "resnet.root_norm", GROUP_NORM)
    for stage, units in enumerate(stages):
        for unit in range(units):
            theirs, ours = f"block{stage + 1}/unit{unit + 1}", f"resnet.stages.{stage}.{unit}"
            for index in (1, 2, 3):
                yield f"{theirs}/conv{index}/kernel", Slot(f"{ours}.conv{index}.weight", CONV)
                yield from _norm(f"{theirs}/gn{index}", f"{ours}.norm{index}", GROUP_NORM)
            if unit == 0:
                yield f"{theirs}/conv_proj/kernel", Slot(f"{ours}.projection.weight", CONV)
                yield from _norm(f"{theirs}/gn_proj", f"{ours}.projection_norm", GROUP_NORM)


def _mixer(config: MixerConfig) -> Slots:
    yield from _kernel_and_bias("stem", "patches.projection", CONV)
    for index in range(config.depth):
        theirs, ours = f"MixerBlock_{index}", f"blocks.{index}"
        for half, mixing in enumerate(("token_mixing", "channel_mixing")):
            yield from _norm(f"{theirs}/LayerNorm_{half}", f"{ours}.norm{half + 1}")
            yield from _kernel_and_bias(f"{theirs}/{mixing}/Dense_0", f"{ours}.{mixing}.widen", DENSE)
            yield from _kernel_and_bias(f"{theirs}/{mixing}/Dense_1", f"{ours}.{mixing}.narrow", DENSE)
    yield from _norm("pre_head_layer_norm", "norm")
    if config.classes:
        yield from _kernel_and_bias("head", "head", DENSE)


def _lit(config: LiTConfig, naming: JaxNaming) -> Slots:
    yield from within("img/", "image.", _vit(config.image, naming))
    text = _bert(config.text) if isinstance(config.text, BertConfig) else _text_transformer(config.text)
    yield from within("txt/", "text.", text)
    yield "t", Slot("log_temperature", SAME)
    if config.bias:
        yield "b", Slot("logit_bias", SAME)


def _text_transformer(config: TextTransformerConfig) -> Slots:
    yield "Embed_0/embedding", Slot("words.weight", SAME)
    yield "pos_embedding", Slot("positions.embedding", SAME)
    yield from _encoder("Encoder_0", config.depth, config.heads, FLAX_LINEN)
    if config.classes:
        yield from _kernel_and_bias("head", "head", DENSE)


def _bert(config: BertConfig) -> Slots:
    embedders = "BertEncoder_0/embedder/embedders"
    for theirs, ours in (("token", "words"), ("position", "positions"), ("segment", "segments")):
        yield f"{embedders}_{theirs}_ids/embedding", Slot(f"{ours}.weight", SAME)
    yield from _norm("BertEncoder_0/layer_norm", "norm")
    for index in range(config.depth):
        ours = f"blocks.{index}"
        theirs = f"BertEncoder_0/encoder_block/layer_sequence/layers_{index}"
        for part, name in enumerate(("query", "key", "value")):
            layer = f"{theirs}/attention_block/attention_layer/{name}"
            yield f"{layer}/kernel", Slot(f"{ours}.attention.qkv.weight", DENSE, part, 3)
            yield f"{layer}/bias", Slot(f"{ours}.attention.qkv.bias", SAME, part, 3)
        yield from _kernel_and_bias(f"{theirs}/attention_block/dense_layer", f"{ours}.attention.out", DENSE)
        yield from _norm(f"{theirs}/attention_block/layer_norm", f"{ours}.norm1")
        yield from _kernel_and_bias(f"{theirs}/mlp_block/mlp/dense_layer", f"{ours}.mlp.widen", DENSE)
        yield from _kernel_and_bias(f"{theirs}/mlp_block/dense_layer", f"{ours}.mlp.narrow", DENSE)
        yield from _norm(f"{theirs}/mlp_block/layer_norm", f"{ours}.norm2")
    if config.classes:
        yield from _kernel_and_bias("head", "head", DENSE)


def _norm(theirs: str, ours: str, layout: Layout = SAME) -> Slots:
    yield f"{theirs}/scale", Slot(f"{ours}.weight", layout)
    yield f"{theirs}/bias", Slot(f"{ours}.bias", layout)


def _kernel_and_bias(theirs: str, ours: str, kernel: Layout) -> Slots:
    yield f"{theirs}/kernel", Slot(f"{ours}.weight", kernel)
    yield f"{theirs}/bias", Slot(f"{ours}.bias", SAME)
