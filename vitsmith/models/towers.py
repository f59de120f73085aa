"""Towers published since the first papers, as rows: DINOv2, DINOv3, DeiT III, CLIP and SigLIP.

Each name stands for the published sizes of one architecture. What weights differ in without another shape (the form of
GELU, the image size, classes) is left to the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vitsmith.models.config import LiTConfig, ViTConfig
from vitsmith.models.parts import AttentionPoolConfig, BlockConfig, PositionEmbeddingConfig, RotaryConfig
from vitsmith.models.text_config import TextTransformerConfig

Size = tuple[int, int, int, int]
"""Width, depth, heads, mlp width."""

_S, _M, _B = (384, 12, 6, 1536), (512, 12, 8, 2048), (768, 12, 12, 3072)
_L, _H = (1024, 24, 16, 4096), (1280, 32, 16, 5120)
_SO400M = (1152, 27, 16, 4304)

# Source: arXiv 2304.07193 table 17; g has a gated MLP of 2/3 of 4 * width.
DINOV2: dict[str, tuple[Size, bool]] = {
    "S_14": (_S, False),
    "B_14": (_B, False),
    "L_14": (_L, False),
    "g_14": ((1536, 40, 24, 4096), True),
}
DINOV2_REGISTERS = 4

# Source: arXiv 2508.10104 and hub/backbones.py of the authors; "plus" stands for a gated MLP, which 7B has too.
DINOV3: dict[str, tuple[Size, bool]] = {
    "S_16": (_S, False),
    "Splus_16": (_S, True),
    "B_16": (_B, False),
    "L_16": (_L, False),
    "Hplus_16": ((1280, 32, 20, 5120), True),
    "7B_16": ((4096, 40, 32, 8192), True),
}

# size, patch. Source: arXiv 2204.07118 table 1, timm's models/deit.py.
DEIT3: dict[str, tuple[Size, int]] = {
    "S_16": (_S, 16),
    "M_16": (_M, 16),
    "B_16": (_B, 16),
    "L_16": (_L, 16),
    "H_14": (_H, 14),
}

# image tower, patch, image size, text tower, width of the embedding. Sources: arXiv 2103.00020 table 20; open_clip's
# model_configs for the others.
CLIP: dict[str, tuple[Size, int, int, Size, int]] = {
    "B_32": (_B, 32, 224, (512, 12, 8, 2048), 512),
    "B_16": (_B, 16, 224, (512, 12, 8, 2048), 512),
    "L_14": (_L, 14, 224, (768, 12, 12, 3072), 768),
    "H_14": (_H, 14, 224, (1024, 24, 16, 4096), 1024),
    "g_14": ((1408, 40, 16, 6144), 14, 224, (1024, 24, 16, 4096), 1024),
    "G_14": ((1664, 48, 16, 8192), 14, 224, (1280, 32, 20, 5120), 1280),
}
CLIP_VOCABULARY, CLIP_LENGTH = 49_408, 77

# image tower, patch, image size, text tower. Sources: arXiv 2303.15343 and 2502.14786; SigLIP 2's giant has the text
# tower of So400m.
SIGLIP: dict[str, tuple[Size, int, int, Size]] = {
    "B_16": (_B, 16, 224, _B),
    "L_16": (_L, 16, 256, _L),
    "So400m_14": (_SO400M, 14, 224, _SO400M),
}
# The same of files for many languages, and whether their text tower has a projection.
SIGLIP_I18N: dict[str, tuple[Size, int, int, Size, bool]] = {
    "B_16-i18n": (_B, 16, 256, _B, True),
    "So400m_16-i18n": (_SO400M, 16, 256, _SO400M, False),
}
SIGLIP2: dict[str, tuple[Size, int, int, Size]] = {
    "B_32": (_B, 32, 256, _B),
    "B_16": (_B, 16, 224, _B),
    "L_16": (_L, 16, 256, _L),
    "So400m_14": (_SO400M, 14, 224, _SO400M),
    "So400m_16": (_SO400M, 16, 256, _SO400M),
    "g_16": ((1536, 40, 16, 6144), 16, 256, _SO400M),
}
SIGLIP_VOCABULARY, I18N_VOCABULARY, SIGLIP2_VOCABULARY, SIGLIP_LENGTH = 32_000, 250_000, 256_000, 64
SIGLIP_SHORT_LENGTHS = {"So400m_14": 16}  # tokens of the text tower at 224 pixels; at 384 it reads 64


def _dinov2() -> dict[str, ViTConfig]:
    rows: dict[str, ViTConfig] = {}
    for name, (size, gated) in DINOV2.items():
        plain = _vit(size, 14, 518, classes=0, gelu="erf", block=BlockConfig(layer_scale=True, gated=gated))
        places = PositionEmbeddingConfig(learned="class")
        changes = {"registers": DINOV2_REGISTERS, "position_embedding": places}
        rows[f"DINOv2-{name}"] = plain
        rows[f"DINOv2-{name}-reg{DINOV2_REGISTERS}"] = plain.model_copy(update=changes)
    return rows


def _dinov3() -> dict[str, ViTConfig]:
    places = PositionEmbeddingConfig(learned="none", rotary=RotaryConfig())
    parts = {"classes": 0, "registers": 4, "gelu": "erf", "norm_eps": 1e-5, "position_embedding": places}
    return {
        f"DINOv3-{name}": _vit(size, 16, 224, **parts, block=BlockConfig(layer_scale=True, gated=gated, qkv_bias=False))
        for name, (size, gated) in DINOV3.items()
    }


def _deit3() -> dict[str, ViTConfig]:
    places, block = PositionEmbeddingConfig(learned="patches"), BlockConfig(layer_scale=True)
    return {
        f"DeiT3-{name}": _vit(size, patch, 224, gelu="erf", position_embedding=places, block=block)
        for name, (size, patch) in DEIT3.items()
    }


def _clips() -> dict[str, LiTConfig]:
    return {f"CLIP-{name}": _clip(*sizes) for name, sizes in CLIP.items()}


def _siglips() -> dict[str, LiTConfig]:
    first = {
        f"SigLIP-{name}": _siglip(*sizes, SIGLIP_SHORT_LENGTHS.get(name, SIGLIP_LENGTH), vocabulary=SIGLIP_VOCABULARY)
        for name, sizes in SIGLIP.items()
    }
    first |= {
        f"SigLIP-{name}": _siglip(image, patch, side, text, vocabulary=I18N_VOCABULARY, projected=projected)
        for name, (image, patch, side, text, projected) in SIGLIP_I18N.items()
    }
    return first | {
        f"SigLIP2-{name}": _siglip(*sizes, vocabulary=SIGLIP2_VOCABULARY) for name, sizes in SIGLIP2.items()
    }


def _vit(size: Size, patch: int, image_size: int, **parts: object) -> ViTConfig:
    width, depth, heads, mlp_width = size
    fields = {"patch": (patch, patch), "image_size": (image_size, image_size), **parts}
    return ViTConfig.model_validate({"width": width, "depth": depth, "heads": heads, "mlp_width": mlp_width, **fields})


def _text(size: Size, **parts: object) -> TextTransformerConfig:
    width, depth, heads, mlp_width = size
    return TextTransformerConfig.model_validate(
        {"width": width, "depth": depth, "heads": heads, "mlp_width": mlp_width, **parts}
    )


def _clip(image: Size, patch: int, image_size: int, text: Size, width: int) -> LiTConfig:
    common = {"gelu": "erf", "norm_eps": 1e-5, "classes": width, "head_bias": False}
    return LiTConfig(
        image=_vit(image, patch, image_size, patch_bias=False, norm_before=True, **common),
        text=_text(text, vocabulary=CLIP_VOCABULARY, length=CLIP_LENGTH, mask="causal", pooling="end", **common),
    )


def _siglip(
    image: Size,
    patch: int,
    image_size: int,
    text: Size,
    length: int = SIGLIP_LENGTH,
    *,
    vocabulary: int,
    projected: bool = True,
) -> LiTConfig:
    pool = AttentionPoolConfig(heads=image[2], mlp_width=image[3])
    tower = _vit(image, patch, image_size, classes=0, class_token=False, pooling="attention", attention_pool=pool)
    return LiTConfig(
        image=tower,
        text=_text(text, vocabulary=vocabulary, length=length, classes=image[0] if projected else 0),
        bias=True,
    )


@dataclass(frozen=True)
class TowerFamily:
    """A family and its published sizes."""

    family: str
    license: str
    """That of the weights published first."""
    configs: Callable[[], Mapping[str, ViTConfig | LiTConfig]]


TOWERS = (
    TowerFamily("deit3", "Apache-2.0", _deit3),
    TowerFamily("dinov2", "Apache-2.0", _dinov2),
    TowerFamily("dinov3", "DINOv3 License", _dinov3),
    TowerFamily("clip", "MIT", _clips),
    TowerFamily("siglip", "Apache-2.0", _siglips),
)
