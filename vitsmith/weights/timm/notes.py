"""What had to be assumed about a model of timm, in words for the user."""

from __future__ import annotations

import re

from vitsmith.models.config import ImageModelConfig, ViTConfig
from vitsmith.specs import ImageSpec
from vitsmith.weights.assumptions import assumed_note, square_grid
from vitsmith.weights.timm.architectures import known_architecture
from vitsmith.weights.timm.config import USUAL_HEADS
from vitsmith.weights.timm.metadata import TimmMetadata

_QUICK = (
    r"vit_.*_clip_(?!quickgelu)\w*\.(openai|metaclip_(400m|2pt5b)|dfn[25]b)$",
    r"vit_base_patch32_clip_224\.laion400m_e32$",
    r"vit_huge_patch14_clip_224\.metaclip2_worldwide$",
)
"""'ARCHITECTURE.TAG' of weights that timm publishes under a name with erf, and also under one with the quick form."""
_DINOV3 = r"vit_\w+_dinov3"
_OTHERS: tuple[tuple[str, dict[str, str], str], ...] = (
    (
        "|".join(_QUICK),
        {"gelu": "erf"},
        "GELU erf (the authors trained these weights with the quick form: gelu='quick')",
    ),
    (
        r"vit_\w+_siglip_",
        {"gelu": "erf"},
        "GELU erf (the authors and transformers compute the tanh form: gelu='tanh')",
    ),
    (
        _DINOV3,
        {"pooling": "gap"},
        "the feature is the mean of the patches (the authors' is the class token: pooling='token')",
    ),
    (
        _DINOV3,
        {},
        "periods of rotary positions are float32 (the authors' files have them in bfloat16: periods='bfloat16')",
    ),
)
"""Where others compute something else with the same weights: the name, fields and their values, and what to tell."""

_MATCHED_WITH_TEXTS = re.compile(r"(vit|eva(02)?)_.*_clip_|vit_pe_core_")


def timm_notes(
    config: ImageModelConfig,
    metadata: TimmMetadata | None,
    images: ImageSpec,
    *,
    image_size: bool,
    projection: bool,
) -> tuple[str, ...]:
    """Notes on what was assumed, for the user to check.

    `image_size` says whether the caller gave it, `projection` whether the head is no classifier.
    """
    vit = config if isinstance(config, ViTConfig) else None
    guessed = []
    if vit and not (metadata and knows_heads(metadata, vit)):
        guessed.append(f"{vit.heads} heads")
    if metadata is None:
        guessed += ["GELU erf", *([f"pooling {vit.pooling!r}"] if vit else [])]
        guessed += ["CLIP's projection for a head without bias behind a norm before the blocks"] if projection else []
    if not (image_size or (metadata and config.image_size == metadata.image_size)):
        guessed.append(square_grid(config))
    notes = assumed_note(guessed)
    notes += _others_compute(config, metadata)
    if projection:
        notes += (
            "its outputs are the embedding of an image, trained with texts, and no classes; "
            "model.features(images).pooled has the features before the projection",
        )
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


def _others_compute(config: ImageModelConfig, metadata: TimmMetadata | None) -> tuple[str, ...]:
    name = f"{metadata.architecture}.{metadata.pretrained_cfg.tag}" if metadata else ""
    return tuple(
        f"as in timm: {told}"
        for pattern, fields, told in _OTHERS
        if re.match(pattern, name) and all(getattr(config, field) == value for field, value in fields.items())
    )


def knows_heads(metadata: TimmMetadata, vit: ViTConfig) -> bool:
    """Whether the number of heads is told, or is that of every published model of this width."""
    told = metadata.model_args.num_heads or known_architecture(metadata.architecture).heads
    return bool(told) or vit.width in USUAL_HEADS


def projects(config: ImageModelConfig, metadata: TimmMetadata | None, *, biased: bool) -> bool:
    """Whether the head is no classifier: CLIP's projection is the head of timm's towers that were not fine-tuned.

    Without metadata CLIP's towers are known by the norm before the blocks, and projections by having no bias.
    """
    if metadata is None:
        return isinstance(config, ViTConfig) and config.norm_before and config.classes > 0 and not biased
    if not config.classes or not _MATCHED_WITH_TEXTS.match(metadata.architecture):
        return False
    own_head = metadata.model_args.num_classes is not None or metadata.pretrained_cfg.label_names
    return not ("_ft_" in str(metadata.pretrained_cfg.tag) or own_head)
