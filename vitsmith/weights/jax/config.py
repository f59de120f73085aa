"""Finds the configuration that released arrays belong to, from their shapes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.models.config import GROUPS, LiTConfig, ModelConfig, ResNetConfig, ViTConfig, indivisible, show_size
from vitsmith.models.configure import parse_config
from vitsmith.models.text_config import BertConfig
from vitsmith.weights.assumptions import assumed_note, check_mixer_size, square_grid

Shapes = Mapping[str, Shape]


def infer_config(shapes: Shapes, *, image_size: tuple[int, int] | None = None, pooling: str | None = None) -> Any:
    """The configuration that arrays of these names and shapes belong to: a ModelConfig.

    `image_size` is needed only if the arrays do not show it: for position embeddings of a grid that is not square.
    `pooling` is what the file says of it; without it a class token means 'token' and none means 'gap', though other
    kinds have the same arrays. Raises WeightsError for arrays of no family we know, ConfigError for impossible sizes.
    """
    if "t" in shapes and any(name.startswith("img/") for name in shapes):
        return parse_config(_lit(shapes, image_size))
    if "pos_embedding" in shapes and "embedding/kernel" in shapes:
        raise WeightsError("image towers of big_vision are read within a file of two towers (img/, txt/), not alone")
    if "stem/kernel" in shapes:
        return parse_config(_mixer(shapes, image_size))
    if "embedding/kernel" in shapes:
        return parse_config(_vit(shapes, image_size, pooling))
    shown = ", ".join(sorted(shapes)[:4]) or "nothing"
    raise WeightsError(f"these are not the arrays of a ViT, hybrid, Mixer or LiT (they begin with {shown})")


def jax_notes(config: ModelConfig, *, image_size: bool, pooling: bool) -> tuple[str, ...]:
    """Notes on what `infer_config` assumed, for the user to check; pass True for what the caller gave it.

    Position embeddings show the number of patches, not the shape of their grid; a head is the same for every pooling.
    """
    tower = config.image if isinstance(config, LiTConfig) else config
    told = []
    if not image_size:
        told.append(square_grid(tower))
    if isinstance(tower, ViTConfig) and not pooling and not isinstance(config, LiTConfig):
        told.append(f"pooling {tower.pooling!r} (pooling= changes it)")
    if isinstance(config, LiTConfig):
        lower = isinstance(config.text, BertConfig) or config.image.attention_pool  # SigLIP's are lowered too
        told.append(f"texts of {config.text.length} tokens in {'lower' if lower else 'their own'} case")
        if isinstance(config.text, BertConfig):
            told.append(f"{config.text.heads} heads in BERT")
    return assumed_note(told)


def _vit(shapes: Shapes, image_size: tuple[int, int] | None, pooling: str | None) -> dict[str, Any]:
    rows, columns, _, width = _get(shapes, "embedding/kernel", 4)
    heads, mlp_width = _encoder_sizes(shapes, "Transformer")
    class_token = "cls" in shapes
    resnet = _resnet(shapes) if "conv_root/kernel" in shapes else None
    big_vision = "pos_embedding" in shapes
    tokens = _get(shapes, "pos_embedding" if big_vision else "Transformer/posembed_input/pos_embedding", 3)[1]
    stride = resnet.stride if resnet else 1
    if image_size is None:
        if not class_token and tokens > 1 and math.isqrt(tokens - 1) ** 2 == tokens - 1:
            raise WeightsError(f"array 'cls' is missing: {tokens} positions are {tokens - 1} patches and a class token")
        side = _square_side(tokens - class_token)
        image_size = (side * rows * stride, side * columns * stride)
    return {
        "family": "vit",
        "width": width,
        "depth": _count(shapes, r"Transformer/encoderblock_(\d{1,6})/"),
        "heads": heads,
        "mlp_width": mlp_width,
        "patch": (rows, columns),
        "image_size": image_size,
        "classes": _out_width(shapes, "head/kernel") or 0,
        "pooling": pooling or ("token" if class_token else "gap"),
        "class_token": class_token,
        "representation": _out_width(shapes, "pre_logits/kernel"),
        "resnet": resnet.model_dump() if resnet else None,
        **(_attention_pool(shapes) if big_vision else {}),
        "unseen_edge": big_vision and indivisible(image_size, (rows, columns)) != "",
    }


def _attention_pool(shapes: Shapes) -> dict[str, Any]:
    """The pooling of SigLIP's image towers (MAPHead in models/vit.py of big_vision)."""
    if "MAPHead_0/probe" not in shapes:
        raise WeightsError("its image tower has no attention pooling (img/MAPHead_0), and no array shows how it pools")
    heads = _get(shapes, "MAPHead_0/MultiHeadDotProductAttention_0/query/kernel", 3)[1]
    mlp_width = _get(shapes, "MAPHead_0/MlpBlock_0/Dense_0/kernel", 2)[1]
    return {"pooling": "attention", "attention_pool": {"heads": heads, "mlp_width": mlp_width}}


def _resnet(shapes: Shapes) -> ResNetConfig:
    width = _get(shapes, "conv_root/kernel", 4)[-1]
    count = _count(shapes, r"block(\d{1,6})/", first=1)
    stages = tuple(_count(shapes, rf"block{stage}/unit(\d{{1,6}})/", first=1) for stage in range(1, count + 1))
    if 0 in stages:
        raise WeightsError(f"no array block{stages.index(0) + 1}/unit1/...: the file is incomplete")
    if width % GROUPS:
        raise WeightsError(f"array 'conv_root/kernel' gives {width} channels, expected a multiple of {GROUPS}")
    return ResNetConfig(stages=stages, width_factor=width / 64)


def _mixer(shapes: Shapes, image_size: tuple[int, int] | None) -> dict[str, Any]:
    rows, columns, _, width = _get(shapes, "stem/kernel", 4)
    tokens, tokens_mlp_width = _get(shapes, "MixerBlock_0/token_mixing/Dense_0/kernel", 2)
    if image_size is None:
        side = _square_side(tokens)
        image_size = (side * rows, side * columns)
    check_mixer_size(image_size, (rows, columns), tokens)
    return {
        "family": "mixer",
        "width": width,
        "depth": _count(shapes, r"MixerBlock_(\d{1,6})/"),
        "tokens_mlp_width": tokens_mlp_width,
        "channels_mlp_width": _get(shapes, "MixerBlock_0/channel_mixing/Dense_0/kernel", 2)[1],
        "patch": (rows, columns),
        "image_size": image_size,
        "classes": _out_width(shapes, "head/kernel") or 0,
    }


def _lit(shapes: Shapes, image_size: tuple[int, int] | None) -> dict[str, Any]:
    image, text_shapes = _vit(_under(shapes, "img/"), image_size, None), _under(shapes, "txt/")
    bert = any(name.startswith("BertEncoder_0/") for name in text_shapes)
    if not bert and image["pooling"] != "attention":
        _get(text_shapes, "head/kernel", 2)  # only one of SigLIP's is without
    text = _bert(text_shapes) if bert else _text_transformer(text_shapes)
    return {"family": "lit", "image": image, "text": text, "bias": "b" in shapes}


def _bert(shapes: Shapes) -> dict[str, Any]:
    embedders = "BertEncoder_0/embedder/embedders"
    vocabulary, width = _get(shapes, f"{embedders}_token_ids/embedding", 2)
    layers = "BertEncoder_0/encoder_block/layer_sequence/layers_"
    return {
        "kind": "bert",
        "width": width,
        "depth": _count(shapes, rf"{layers}(\d{{1,6}})/"),
        "heads": max(width // 64, 1),  # not in the arrays; all released BERTs have heads of 64
        "mlp_width": _get(shapes, f"{layers}0/mlp_block/mlp/dense_layer/kernel", 2)[1],
        "vocabulary": vocabulary,
        "positions": _get(shapes, f"{embedders}_position_ids/embedding", 2)[0],
        "segments": _get(shapes, f"{embedders}_segment_ids/embedding", 2)[0],
        "classes": _out_width(shapes, "head/kernel") or 0,
    }


def _text_transformer(shapes: Shapes) -> dict[str, Any]:
    vocabulary, width = _get(shapes, "Embed_0/embedding", 2)
    heads, mlp_width = _encoder_sizes(shapes, "Encoder_0")
    return {
        "kind": "transformer",
        "width": width,
        "depth": _count(shapes, r"Encoder_0/encoderblock_(\d{1,6})/"),
        "heads": heads,
        "mlp_width": mlp_width,
        "vocabulary": vocabulary,
        "length": _get(shapes, "pos_embedding", 3)[1],
        "classes": _out_width(shapes, "head/kernel") or 0,
    }


def _encoder_sizes(shapes: Shapes, prefix: str) -> tuple[int, int]:
    """(heads, mlp width) from whichever block has them, in either naming."""
    heads = mlp_width = 0
    for name, shape in shapes.items():
        if name.startswith(f"{prefix}/encoderblock_"):
            if name.endswith("/query/kernel") and len(shape) == 3:
                heads = shape[1]
            elif name.endswith("/Dense_0/kernel") and len(shape) == 2:
                mlp_width = shape[1]
    if not heads or not mlp_width:
        missing = "query/kernel" if not heads else "Dense_0/kernel"
        raise WeightsError(f"no array {prefix}/encoderblock_0/.../{missing}: the file is incomplete")
    return heads, mlp_width


def _count(shapes: Shapes, pattern: str, first: int = 0) -> int:
    """How many indices `pattern` finds, from `first` on. Raises WeightsError when there is a gap between them."""
    found = {int(match[1]) for name in shapes if (match := re.match(pattern, name))}
    if not found:
        return 0
    last = max(found)
    if len(found) != last + 1 - first:  # before a model of that many blocks is built, to find most of it missing
        example = next(name for name in shapes if (match := re.match(pattern, name)) and int(match[1]) == last)
        raise WeightsError(f"the file has {example!r} but not all the blocks before it: the file is incomplete")
    return last + 1 - first


def _get(shapes: Shapes, name: str, axes: int) -> Shape:
    if name not in shapes:
        raise WeightsError(f"array {name!r} is missing: the file is incomplete")
    if len(shapes[name]) != axes:
        raise WeightsError(f"array {name!r} has shape {show_size(shapes[name])}, expected {axes} axes")
    return shapes[name]


def _out_width(shapes: Shapes, name: str) -> int | None:
    """The last axis of a kernel; None if it is absent."""
    return _get(shapes, name, 2)[-1] if name in shapes else None


def _square_side(patches: int) -> int:
    side = math.isqrt(max(patches, 0))
    if side * side != patches or side == 0:
        raise WeightsError(
            f"{patches} patch positions do not form a square: give the size with `image_size`, "
            "as 224x320 (height x width)"
        )
    return side


def _under(shapes: Shapes, prefix: str) -> dict[str, Shape]:
    return {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
