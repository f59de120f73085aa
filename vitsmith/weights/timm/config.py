"""Finds the configuration that timm's arrays belong to, from their shapes and the `config.json` beside them."""

from __future__ import annotations

import math
import re

from vitsmith.arrays import Shape
from vitsmith.errors import WeightsError
from vitsmith.models.config import ImageModelConfig, ViTConfig, show_size
from vitsmith.models.configure import parse_config
from vitsmith.models.presets import VIT_SIZES
from vitsmith.specs import ImageSpec
from vitsmith.weights.assumptions import assumed_note, square_grid
from vitsmith.weights.fill import ArrayFile
from vitsmith.weights.timm.metadata import ModelArgs, TimmMetadata
from vitsmith.weights.unsupported import check_channels, refuse_unsupported

POSITIONS, PATCHES, STEM = "pos_embed", "patch_embed.proj.weight", "stem.proj.weight"

# Architectures of timm 1.0.31 whose arrays do not show that they differ from the others of their width:
# all VisionTransformers of its registry were built and compared.
_HEADS = {
    r"vit_base_patch16_gap_": 16,
    r"vit_giantopt_": 16,
    r"test_vit$": 2,
}
_HEADS_OF = {width: heads for width, _, heads, _ in VIT_SIZES.values()}
_TANH_GELU = r"vit_base_patch32_siglip_|vit_giantopt_|vit_large_patch16_siglip_gap_512|vit_so400m_patch16_siglip_"

_GELUS = {"gelu": "erf", "gelu_tanh": "tanh"}
_POOLINGS = {"token": "token", "avg": "gap"}

# Arguments of timm's constructors that change the arithmetic and leave no trace in the arrays.
_UNSUPPORTED_ARGUMENTS = ("norm_layer", "embed_layer", "block_fn", "mlp_layer", "attn_layer", "pool_include_prefix")


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
    refuse_unsupported(file)
    if metadata:
        _check_arguments(metadata.model_args, file)
    if STEM in file.shapes:
        return _mixer(file, metadata, image_size)
    return _vit(file, metadata, image_size)


def _vit(file: ArrayFile, metadata: TimmMetadata | None, image_size: tuple[int, int] | None) -> ViTConfig:
    check_channels(file, PATCHES)
    width, _, *patch = _get(file, PATCHES, 4)
    positions = _get(file, POSITIONS, 3)[1]
    class_token, distillation_token = "cls_token" in file.shapes, "dist_token" in file.shapes
    config: ViTConfig = parse_config(
        {
            "family": "vit",
            "width": width,
            "depth": _depth(file),
            "heads": _told_heads(metadata) or _usual_heads(width),
            "mlp_width": _get(file, "blocks.0.mlp.fc1.weight", 2)[0],
            "patch": patch,
            "image_size": image_size or _image_size(file, metadata, positions, patch, class_token + distillation_token),
            "classes": _classes(file, metadata),
            "pooling": _pooling(file, metadata, class_token),
            "class_token": class_token,
            "distillation_token": distillation_token,
            "representation": file.shapes["pre_logits.fc.weight"][0] if "pre_logits.fc.weight" in file.shapes else None,
            "gelu": _gelu(file, metadata),
            "norm_after_pooling": "fc_norm.weight" in file.shapes,
        }
    )
    return config


def _mixer(file: ArrayFile, metadata: TimmMetadata | None, image_size: tuple[int, int] | None) -> ImageModelConfig:
    check_channels(file, STEM)
    width, _, *patch = _get(file, STEM, 4)
    tokens_mlp_width, tokens = _get(file, "blocks.0.mlp_tokens.fc1.weight", 2)
    config: ImageModelConfig = parse_config(
        {
            "family": "mixer",
            "width": width,
            "depth": _depth(file),
            "tokens_mlp_width": tokens_mlp_width,
            "channels_mlp_width": _get(file, "blocks.0.mlp_channels.fc1.weight", 2)[0],
            "patch": patch,
            "image_size": image_size or _image_size(file, metadata, tokens, patch, prefix=0),
            "classes": _classes(file, metadata),
            "gelu": _gelu(file, metadata),
        }
    )
    return config


def has_class_position(file: ArrayFile, config: ImageModelConfig) -> bool:
    """Whether the position embeddings begin with the class token's (timm's `no_embed_class` models lack it)."""
    return not isinstance(config, ViTConfig) or file.shapes[POSITIONS][1] != math.prod(config.grid)


def timm_notes(
    file: ArrayFile, config: ImageModelConfig, metadata: TimmMetadata | None, images: ImageSpec, *, image_size: bool
) -> tuple[str, ...]:
    """Notes on what was assumed, for the user to check; `image_size` says whether the caller gave it."""
    vit = config if isinstance(config, ViTConfig) else None
    guessed = []
    if vit and not (metadata and (_told_heads(metadata) or vit.width in _HEADS_OF)):
        guessed.append(f"{vit.heads} heads")
    if metadata is None:
        guessed += ["GELU erf", *([f"pooling {vit.pooling!r}"] if vit else [])]
    positions, prefix = (file.shapes[POSITIONS][1], vit.prefix) if vit else (math.prod(config.grid), 0)
    if not (image_size or (metadata and metadata.fits(positions, config.patch, prefix))):
        guessed.append(square_grid(config))
    notes = assumed_note(guessed)
    if metadata is not None:
        told = metadata.pretrained_cfg.model_fields_set
        unsaid = [field for field in ("mean", "std", "crop_pct", "interpolation") if field not in told]
        return (*notes, *([f"config.json does not have {', '.join(unsaid)}: timm's defaults were used"] * bool(unsaid)))
    preprocessing = (
        "preprocessing was assumed, there is no config.json beside the weights: "
        f"{images.interpolation}, crop {images.crop:g}, mean {images.mean[0]:g}, std {images.std[0]:g} "
        "(DeiT and others have ImageNet's mean and std)"
    )
    return (preprocessing, *notes)


def _check_arguments(arguments: ModelArgs, file: ArrayFile) -> None:
    for name in _UNSUPPORTED_ARGUMENTS:
        if value := getattr(arguments, name):
            raise WeightsError(f"{file.path}: {name}={value!r} in the config.json beside it is not supported")


def _told_heads(metadata: TimmMetadata | None) -> int | None:
    if metadata is None:
        return None
    by_name = (count for name, count in _HEADS.items() if re.match(name, metadata.architecture))
    return metadata.model_args.num_heads or next(by_name, None)


def _usual_heads(width: int) -> int:
    return _HEADS_OF.get(width) or max(width // 64, 1)


def _gelu(file: ArrayFile, metadata: TimmMetadata | None) -> str:
    if metadata is None:
        return "erf"
    told = metadata.model_args.act_layer or ("quick_gelu" if "quickgelu" in metadata.architecture else None)
    if told is None:
        return "tanh" if re.match(_TANH_GELU, metadata.architecture) else "erf"
    if told not in _GELUS:
        raise WeightsError(f"{file.path}: activation {told!r} is not supported, known are {', '.join(_GELUS)}")
    return _GELUS[told]


def _pooling(file: ArrayFile, metadata: TimmMetadata | None, class_token: bool) -> str:
    told = metadata.pooling if metadata else None
    if told is None:
        return "token" if class_token and "fc_norm.weight" not in file.shapes else "gap"
    if told not in _POOLINGS:
        raise WeightsError(f"{file.path}: global_pool {told!r} is not supported, known are {', '.join(_POOLINGS)}")
    return _POOLINGS[told]


def _classes(file: ArrayFile, metadata: TimmMetadata | None) -> int:
    classes = _get(file, "head.weight", 2)[0] if "head.weight" in file.shapes else 0
    told = metadata.num_classes if metadata else None
    if told is not None and told != classes:
        raise WeightsError(
            f"{file.path}: has {classes} classes, the config.json beside it says {told}: does it belong to this file?"
        )
    return classes


def _depth(file: ArrayFile) -> int:
    """The number of blocks. Raises WeightsError when there is a gap between them."""
    found = {int(match[1]) for name in file.shapes if (match := re.match(r"blocks\.(\d{1,6})\.", name))}
    last = max(found, default=-1)
    if len(found) != last + 1:
        raise WeightsError(f"{file.path}: has block {last} but not all the blocks before it: the file is incomplete")
    return last + 1


def _image_size(
    file: ArrayFile, metadata: TimmMetadata | None, tokens: int, patch: list[int], prefix: int
) -> tuple[int, int]:
    """(height, width): that of config.json if its number of patches fits `tokens`, else a square that fits."""
    if metadata and metadata.fits(tokens, patch, prefix):
        return metadata.image_size
    patches = tokens - prefix
    side = math.isqrt(max(patches, 0))
    if side * side != patches or side == 0:
        raise WeightsError(
            f"{file.path}: {patches} patches of {show_size(tuple(patch))} pixels do not form a square: "
            "give the size with `image_size`, as 224x320 (height x width)"
        )
    return side * patch[0], side * patch[1]


def _get(file: ArrayFile, name: str, axes: int) -> Shape:
    if name not in file.shapes:
        raise WeightsError(f"{file.path}: array {name!r} is missing: not one of timm's plain ViTs or Mixers")
    if len(file.shapes[name]) != axes:
        raise WeightsError(f"{file.path}: array {name!r} is {show_size(file.shapes[name])}, expected {axes} axes")
    return file.shapes[name]
