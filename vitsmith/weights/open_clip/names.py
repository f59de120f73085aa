"""The names of open_clip's arrays, as tables: its name -> the slot in our model it fills.

Source: VisionTransformer, TextTransformer and CLIP in transformer.py and model.py of open_clip 3.3. OpenAI's own files
(clip/model.py) have the same names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.text_config import TextTransformerConfig
from vitsmith.weights.layouts import Dense, Layout, Same, Slot, WithoutLeading
from vitsmith.weights.timm.names import Naming, timm_slots

SAME = Same()
VISUAL, TRUNK, HEAD, SCALE, BIAS = "visual.", "visual.trunk.", "visual.head.proj.", "logit_scale", "logit_bias"
_TEXT, _WORDS = "text.", "token_embedding.weight"

Slots = Iterator[tuple[str, Slot]]


def text_prefix(names: Collection[str]) -> str:
    """What stands before the names of the text tower: nothing in `CLIP`, 'text.' in `CustomTextCLIP`."""
    return _TEXT if f"{_TEXT}{_WORDS}" in names else ""


def image_slots(config: ViTConfig, positions: Layout = SAME) -> Slots:
    """The arrays of open_clip's own image tower, after 'visual.'."""
    yield "conv1.weight", Slot("patches.projection.weight", SAME)
    yield "class_embedding", Slot("class_token", WithoutLeading(2))
    yield "positional_embedding", Slot("positions.embedding", WithoutLeading(1, positions))
    if config.norm_before:
        yield from _both("ln_pre", "norm_before")
    yield from _blocks(config.depth, layer_scale=config.block.layer_scale)
    yield from _both("ln_post", "norm")
    yield "proj", Slot("head.weight", Dense())


def trunk_slots(config: ViTConfig, naming: Naming, *, head_apart: bool, positions: Layout = SAME) -> Slots:
    """The arrays of an image tower of timm by their whole names; the projection may stand behind timm's model."""
    for name, slot in timm_slots(config, naming).items():
        if slot.parameter == "positions.embedding":
            slot = replace(slot, layout=positions)
        apart = head_apart and slot.parameter.startswith("head.")
        yield f"{HEAD}{name.removeprefix('head.')}" if apart else f"{TRUNK}{name}", slot


def text_slots(config: TextTransformerConfig) -> Slots:
    """The arrays of the text tower, after `text_prefix`."""
    yield _WORDS, Slot("words.weight", SAME)
    yield "positional_embedding", Slot("positions.embedding", WithoutLeading(1))
    yield from _blocks(config.depth)
    yield from _both("ln_final", "norm")
    if config.classes and config.head_bias:
        yield from _both("text_projection", "head")
    elif config.classes:
        yield "text_projection", Slot("head.weight", Dense())


def scalar_slots(config: LiTConfig, layout: Layout) -> Slots:
    """Scale and bias of the logits."""
    yield SCALE, Slot("log_temperature", layout)
    if config.bias:
        yield BIAS, Slot("logit_bias", layout)


def _blocks(depth: int, *, layer_scale: bool = False) -> Slots:
    for index in range(depth):
        theirs, ours = f"transformer.resblocks.{index}", f"blocks.{index}"
        yield from _both(f"{theirs}.ln_1", f"{ours}.norm1")
        for kind in ("weight", "bias"):
            yield f"{theirs}.attn.in_proj_{kind}", Slot(f"{ours}.attention.qkv.{kind}", SAME)
        yield from _both(f"{theirs}.attn.out_proj", f"{ours}.attention.out")
        yield from _both(f"{theirs}.ln_2", f"{ours}.norm2")
        yield from _both(f"{theirs}.mlp.c_fc", f"{ours}.mlp.widen")
        yield from _both(f"{theirs}.mlp.c_proj", f"{ours}.mlp.narrow")
        for number in (1, 2) if layer_scale else ():
            yield f"{theirs}.ls_{number}.gamma", Slot(f"{ours}.scale{number}.factors", SAME)


def _both(theirs: str, ours: str) -> Iterable[tuple[str, Slot]]:
    """The weight and the bias of a layer or norm."""
    return [(f"{theirs}.{kind}", Slot(f"{ours}.{kind}", SAME)) for kind in ("weight", "bias")]
