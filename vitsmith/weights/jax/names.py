"""The names of Google's released arrays, as tables: JAX name -> the slot in our model it fills.

Inside `encoderblock_N` two namings of the same thing exist in released files. FLAX_PRE_LINEN numbers all modules
together (the image models), FLAX_LINEN each kind for itself (LiT, and models saved by newer code).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
class BlockNaming:
    """Names of the four parts of an encoder block."""

    norm1: str
    attention: str
    norm2: str
    mlp: str


FLAX_PRE_LINEN = BlockNaming("LayerNorm_0", "MultiHeadDotProductAttention_1", "LayerNorm_2", "MlpBlock_3")
FLAX_LINEN = BlockNaming("LayerNorm_0", "MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0")


def naming_of(names: set[str]) -> BlockNaming:
    """Which of the two namings a file's array names use."""
    new = any("/MultiHeadDotProductAttention_0/" in name and not name.startswith("txt/") for name in names)
    return FLAX_LINEN if new else FLAX_PRE_LINEN


def jax_slots(config: ModelConfig, naming: BlockNaming | None = None) -> dict[str, Slot]:
    """All arrays of a model by JAX name. `naming` defaults to what the released file of that family has."""
    match config:
        case MixerConfig():
            return dict(_mixer(config))
        case LiTConfig():
            return dict(_lit(config, naming or FLAX_LINEN))
        case ViTConfig():
            return dict(_vit(config, naming or FLAX_PRE_LINEN))


def _vit(config: ViTConfig, naming: BlockNaming) -> Slots:
    if config.resnet:
        yield from _resnet(config.resnet.stages)
    yield from _kernel_and_bias("embedding", "patches.projection", CONV)
    if config.class_token:
        yield "cls", Slot("class_token", SAME)
    yield "Transformer/posembed_input/pos_embedding", Slot("positions.embedding", SAME)
    yield from _encoder("Transformer", config.depth, config.heads, naming)
    if config.representation:
        yield from _kernel_and_bias("pre_logits", "representation.0", DENSE)
    if config.classes:
        yield from _kernel_and_bias("head", "head", DENSE)


def _encoder(prefix: str, depth: int, heads: int, naming: BlockNaming) -> Slots:
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


def _lit(config: LiTConfig, naming: BlockNaming) -> Slots:
    yield from within("img/", "image.", _vit(config.image, naming))
    text = _bert(config.text) if isinstance(config.text, BertConfig) else _text_transformer(config.text)
    yield from within("txt/", "text.", text)
    yield "t", Slot("log_temperature", SAME)


def _text_transformer(config: TextTransformerConfig) -> Slots:
    yield "Embed_0/embedding", Slot("words.weight", SAME)
    yield "pos_embedding", Slot("positions.embedding", SAME)
    yield from _encoder("Encoder_0", config.depth, config.heads, FLAX_LINEN)
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
