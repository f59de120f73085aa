"""Finds the configuration that timm's arrays belong to, from their shapes and the `config.json` beside them."""

from __future__ import annotations

import math
from typing import Any

from vitsmith.errors import WeightsError
from vitsmith.models.config import ImageModelConfig, ViTConfig, indivisible, show_size
from vitsmith.models.configure import change, parse_config
from vitsmith.models.presets import VIT_SIZES
from vitsmith.weights.assumptions import check_mixer_size
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.timm.architectures import Architecture, known_architecture, turns_by_name
from vitsmith.weights.timm.metadata import ModelArgs, RefusedArgs, TimmMetadata
from vitsmith.weights.timm.parts import (
    PATCH_NORM,
    PATCHES,
    POSITIONS,
    STEM,
    block_of,
    depth_of,
    is_gated,
    mlp_width_of,
    resnet_of,
    shape_of,
    tokens_of,
)
from vitsmith.weights.unsupported import check_channels, refuse_unsupported

USUAL_HEADS = {width: heads for width, _, heads, _ in VIT_SIZES.values()}

_GELUS = {"gelu": "erf", "gelu_tanh": "tanh", "quick_gelu": "quick"}
_POOLINGS = {"token": "token", "avg": "gap", "map": "attention"}

_USUAL = {"use_post_norm": False, "rope_grid_offset": 0.0, "dynamic_img_pad": False}
"""Values of arguments that say what is so without them."""

_SINCE_THE_ORIGINAL = {
    *("patch_bias", "unseen_edge", "registers", "position_embedding", "norm_before", "block", "final_norm"),
    *("attention_pool", "head_bias", "norm", "patch_norm"),
}
"""Fields of parts that the original's code does not have."""


def infer_timm_config(
    file: ArrayFile, metadata: TimmMetadata | None, *, image_size: tuple[int, int] | None = None
) -> ImageModelConfig:
    """The configuration of a timm ViT or Mixer.

    Args:
        metadata: the `config.json` beside the file, or None. The arrays do not show the number of heads: if
            `metadata` does not either, it is that of the preset of this width, or width / 64.
        image_size: (height, width); without metadata it is needed for grids that are not square, and for models that
            have a class token but no position for it.

    Raises WeightsError for what our models do not have, naming it.
    """
    architecture = known_architecture(metadata.architecture if metadata else "")
    refuse_unsupported(file, rms_norm=architecture.norm == "rms")
    if metadata:
        _check_arguments(metadata.model_args, file)
        if architecture.refused:
            raise WeightsError(
                f"{file.path}: {architecture.refused}, as {metadata.architecture} has, are not supported"
            )
    if STEM in file.shapes:
        return _mixer(file, metadata, image_size)
    if architecture.rotary == "unknown" and turns_by_name(file.shapes):
        missing = f"{metadata.architecture!r} is not known" if metadata else "there is no config.json beside it"
        raise WeightsError(
            f"{file.path}: its queries and keys may turn with their places (rotary position embeddings); only the name "
            f"of timm's architecture tells how, and {missing}"
        )
    return _vit(file, metadata, architecture, image_size)


def _vit(
    file: ArrayFile, metadata: TimmMetadata | None, architecture: Architecture, image_size: tuple[int, int] | None
) -> ViTConfig:
    arguments = metadata.model_args if metadata else ModelArgs()
    resnet, tokens = resnet_of(file), tokens_of(file)
    width, _, *patch = shape_of(file, PATCHES, 4)
    prefix, stride = sum(tokens.values()), [side * (resnet.stride if resnet else 1) for side in patch]
    size = image_size or _image_size(file, metadata, stride, prefix)
    patches = math.prod(-(-side // step) if resnet else side // step for side, step in zip(size, stride, strict=True))
    heads = arguments.num_heads or architecture.heads or USUAL_HEADS.get(width) or max(width // 64, 1)
    config: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": width,
            "depth": depth_of(file),
            "heads": heads,
            "mlp_width": mlp_width_of(file),
            "patch": patch,
            "image_size": size,
            "classes": _classes(file, metadata),
            "pooling": _pooling(file, metadata, architecture),
            **tokens,
            "representation": file.shapes["pre_logits.fc.weight"][0] if "pre_logits.fc.weight" in file.shapes else None,
            "resnet": resnet and resnet.model_dump(),
            "gelu": _gelu(file, arguments.act_layer or architecture.act_layer),
            "norm_eps": architecture.norm_eps
            or (1e-5 if metadata is None and "norm_pre.weight" in file.shapes else 1e-6),
            "norm_after_pooling": "fc_norm.weight" in file.shapes,
            "patch_bias": "patch_embed.proj.bias" in file.shapes,
            "unseen_edge": not (image_size or resnet) and indivisible(size, (patch[0], patch[1])) != "",
            "position_embedding": _positions(file, architecture, patches, prefix),
            "norm_before": "norm_pre.weight" in file.shapes,
            "block": block_of(file),
            "final_norm": "norm.weight" in file.shapes or "fc_norm.weight" in file.shapes,
            "attention_pool": _attention_pool(file, arguments, architecture, heads),
            "head_bias": "head.weight" not in file.shapes or "head.bias" in file.shapes,
            "norm": architecture.norm,
            "patch_norm": PATCH_NORM in file.shapes,
        }
    )
    _check_pooled(config, architecture, arguments, file)
    return _resized_as_timm(config)


def _resized_as_timm(config: ViTConfig) -> ViTConfig:
    """`config` whose positions move to another grid as timm's do, if it is no model that the original's code has."""
    if not _SINCE_THE_ORIGINAL & set(config.model_dump(exclude_defaults=True)):
        return config
    positions = {**config.position_embedding.model_dump(), "resize": "bicubic"}
    resized: ViTConfig = change(config, position_embedding=positions)
    return resized


def _mixer(file: ArrayFile, metadata: TimmMetadata | None, image_size: tuple[int, int] | None) -> ImageModelConfig:
    check_channels(file, STEM)
    width, _, *patch = shape_of(file, STEM, 4)
    tokens_mlp_width, tokens = shape_of(file, "blocks.0.mlp_tokens.fc1.weight", 2)
    if image_size is None:
        fits = metadata and metadata.fits(tokens, patch, prefix=0)
        image_size = metadata.image_size if metadata and fits else _square(file, tokens, patch)
    check_mixer_size(image_size, patch, tokens)
    config: ImageModelConfig = parse_config(
        {
            "family": "mixer",
            "width": width,
            "depth": depth_of(file),
            "tokens_mlp_width": tokens_mlp_width,
            "channels_mlp_width": shape_of(file, "blocks.0.mlp_channels.fc1.weight", 2)[0],
            "patch": patch,
            "image_size": image_size,
            "classes": _classes(file, metadata),
            "gelu": _gelu(file, (metadata and metadata.model_args.act_layer) or "gelu"),
        }
    )
    return config


def _check_arguments(arguments: ModelArgs, file: ArrayFile) -> None:
    for name in RefusedArgs.model_fields:
        if (value := getattr(arguments, name)) is not None and value != _USUAL.get(name):
            raise WeightsError(f"{file.path}: {name}={value!r} in the config.json beside it is not supported")


def _gelu(file: ArrayFile, told: str) -> str:
    if told.lower() in ("silu", "swish") and STEM not in file.shapes and is_gated(file):
        return "erf"  # not used: SiLU is what a gated MLP has
    if told not in _GELUS:
        raise WeightsError(f"{file.path}: activation {told!r} is not supported, known are {', '.join(_GELUS)}")
    return _GELUS[told]


def _pooling(file: ArrayFile, metadata: TimmMetadata | None, architecture: Architecture) -> str:
    told = metadata.pooling if metadata else None
    told = architecture.global_pool if told is None else told
    if told is None:
        if "attn_pool.latent" in file.shapes:
            return "attention"
        return "token" if "cls_token" in file.shapes and "fc_norm.weight" not in file.shapes else "gap"
    if told not in _POOLINGS:
        raise WeightsError(f"{file.path}: global_pool {told!r} is not supported, known are {', '.join(_POOLINGS)}")
    return _POOLINGS[told]


def _check_pooled(config: ViTConfig, architecture: Architecture, arguments: ModelArgs, file: ArrayFile) -> None:
    """Raises WeightsError unless pooling sees the tokens that ours does: 'attention' all, 'gap' the patches."""
    if arguments.pool_include_prefix and not config.attention_pool:
        raise WeightsError(f"{file.path}: pool_include_prefix=True in the config.json beside it is not supported")
    if (
        config.attention_pool
        and config.prefix
        and not (architecture.pool_include_prefix or arguments.pool_include_prefix)
    ):
        raise WeightsError(f"{file.path}: attention pooling of the patches alone is not supported")


def _attention_pool(
    file: ArrayFile, arguments: ModelArgs, architecture: Architecture, heads: int
) -> dict[str, int] | None:
    if "attn_pool.latent" not in file.shapes:
        return None
    heads = arguments.attn_pool_num_heads or architecture.pool_heads or heads
    return {"heads": heads, "mlp_width": shape_of(file, "attn_pool.mlp.fc1.weight", 2)[0]}


def _positions(file: ArrayFile, architecture: Architecture, patches: int, prefix: int) -> dict[str, Any]:
    """Learned positions for all tokens or, timm's `no_embed_class`, for the patches; and rotary ones."""
    rotary = None if architecture.rotary == "unknown" else architecture.rotary
    if rotary and POSITIONS not in file.shapes:
        return {"learned": "none", "rotary": rotary.model_dump()}
    may_lack = prefix and "dist_token" not in file.shapes
    learned = "patches" if may_lack and shape_of(file, POSITIONS, 3)[1] == patches else "all"
    return {"learned": learned, "rotary": rotary and rotary.model_dump()}


def _classes(file: ArrayFile, metadata: TimmMetadata | None) -> int:
    classes = shape_of(file, "head.weight", 2)[0] if "head.weight" in file.shapes else 0
    told = metadata.num_classes if metadata else None
    if told is not None and told != classes:
        raise WeightsError(
            f"{file.path}: has {classes} classes, the config.json beside it says {told}: does it belong to this file?"
        )
    return classes


def _image_size(file: ArrayFile, metadata: TimmMetadata | None, stride: list[int], prefix: int) -> tuple[int, int]:
    """(height, width): that of config.json if its number of patches fits the positions, else a square that fits."""
    if metadata and POSITIONS not in file.shapes:
        return metadata.image_size
    tokens = shape_of(file, POSITIONS, 3)[1]
    if metadata and metadata.fits(tokens, stride, prefix):
        return metadata.image_size
    return _square(file, tokens - prefix, stride)


def _square(file: ArrayFile, patches: int, stride: list[int]) -> tuple[int, int]:
    """(height, width) of the square image with so many patches of `stride` pixels."""
    side = math.isqrt(max(patches, 0))
    if side * side != patches or side == 0:
        raise WeightsError(
            f"{file.path}: {patches} patches of {show_size(tuple(stride))} pixels do not form a square: "
            "give the size with `image_size`, as 224x320 (height x width)"
        )
    return side * stride[0], side * stride[1]
