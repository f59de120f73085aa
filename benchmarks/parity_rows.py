"""The rows of `parity.py`: models of other libraries, small, one for each form that our families read."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

Size = tuple[int, int]

TINY = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
NARROW = {**TINY, "intermediate_size": 112}


@dataclass(frozen=True)
class Row:
    """One model of a library, and the sizes of images it is compared at: that of the file first."""

    family: str
    distribution: str
    """The library: a name of LIBRARIES."""
    model: str
    """The library's class."""
    config: str
    fields: dict[str, Any]
    sizes: tuple[Size, ...]
    preprocessor: dict[str, Any] = field(default_factory=dict)
    forward: dict[str, Any] = field(default_factory=dict)
    """Arguments of the library's model at another size than the file's."""

    @property
    def headless(self) -> bool:
        return "Classification" not in self.model and not self.fields.get("num_classes")


INTERPOLATED = {"interpolate_pos_encoding": True}
DINOV2 = {**TINY, "image_size": 126, "patch_size": 14}
DINOV2_SIZES = ((126, 126), (56, 56), (70, 42), (140, 154))
VIT_SIZES = ((64, 64), (96, 96), (48, 80))
DINOV3_SIZES = ((64, 64), (96, 96), (48, 80))
VIT = {**NARROW, "image_size": 64}
CLASSES = {"num_labels": 7}
SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
PUBLISHED_DINOV2 = {"image_size": 518, "patch_size": 14}
PUBLISHED_SIZES = ((518, 518), (224, 224), (448, 336))
DINOV3 = {**VIT, "num_register_tokens": 4}

TOWER_SIZES = ((64, 64), (96, 96), (48, 80))
TEXT = {**TINY, "hidden_size": 36, "intermediate_size": 100, "vocab_size": 120}
CLIP_TEXT = {**TEXT, "eos_token_id": 119}
CLIP_IMAGE = {**VIT, "patch_size": 16}
EDGES = ((71, 71), (98, 98), (42, 84))


def clip(text: dict[str, Any], image: dict[str, Any], **fields: Any) -> dict[str, Any]:
    towers = {"text_config": {**CLIP_TEXT, **text}, "vision_config": {**CLIP_IMAGE, **image}}
    return {"projection_dim": 24, **towers, **fields}


def siglip(text: dict[str, Any], image: dict[str, Any], **fields: Any) -> dict[str, Any]:
    towers = {"text_config": {**TEXT, "projection_size": 48, **text}, "vision_config": {**CLIP_IMAGE, **image}}
    return {**towers, **fields}


def towers(family: str, model: str, fields: dict[str, Any], sizes: tuple[Size, ...] = TOWER_SIZES) -> Row:
    """A model of transformers of CLIP's or SigLIP's shape."""
    config = next(name for name in ("CLIP", "MetaClip2", "Siglip") if model.startswith(name))
    part = "Vision" if "Vision" in model else ""
    return Row(family, "HF", model, f"{config}{part}Config", fields, sizes, forward=INTERPOLATED)


ERF = {"hidden_act": "gelu"}
TOWERS = (
    towers("CLIP", "CLIPModel", clip({}, {})),
    towers("CLIP", "CLIPModel", clip({**ERF, "eos_token_id": 2}, {**ERF, "layer_norm_eps": 1e-3})),
    towers("CLIP", "CLIPModel", clip({"eos_token_id": 7}, {"patch_size": 14, "image_size": 70}), ((70, 70), (42, 84))),
    towers("CLIP", "CLIPModel", clip({}, {"image_size": 71}), ((71, 71), (96, 96))),
    towers("CLIP", "CLIPVisionModel", CLIP_IMAGE),
    towers("CLIP", "CLIPVisionModelWithProjection", {**CLIP_IMAGE, "projection_dim": 20}),
    towers("CLIP", "CLIPForImageClassification", clip({}, {}, **CLASSES)),
    towers("MetaCLIP 2", "MetaClip2Model", clip({"eos_token_id": 2, "hidden_act": "gelu"}, ERF)),
    towers("MetaCLIP 2", "MetaClip2VisionModelWithProjection", {**CLIP_IMAGE, "projection_dim": 20}),
    towers("MetaCLIP 2", "MetaClip2ForImageClassification", clip({}, {}, **CLASSES)),
    towers("SigLIP", "SiglipModel", siglip({}, {})),
    towers("SigLIP", "SiglipModel", siglip({**ERF, "max_position_embeddings": 16}, ERF)),
    towers("SigLIP", "SiglipModel", siglip({"vocab_size": 500}, {"patch_size": 14, "image_size": 71}), EDGES),
    towers("SigLIP", "SiglipVisionModel", CLIP_IMAGE),
    towers("SigLIP", "SiglipVisionModel", {**CLIP_IMAGE, "vision_use_head": False}),
    towers("SigLIP", "SiglipForImageClassification", siglip({}, {}, **CLASSES)),
    towers("CLIP B/32", "CLIPModel", {}, ((224, 224), (320, 352))),
    towers("SigLIP B/16", "SiglipModel", {}, ((224, 224), (256, 256))),
)

TIMM = {"depth": 3, "embed_dim": 48, "num_heads": 3}


def of_timm(family: str, architecture: str, size: Size, **fields: Any) -> Row:
    """An architecture of timm, made small; timm's positions have the size of the model, and move to another."""
    patch = int(re.findall(r"patch(\d+)", architecture)[0])
    larger = (size[0] + patch, size[1] + 2 * patch)
    return Row(family, "timm", architecture, "", {**TIMM, "img_size": size, **fields}, (size, larger))


FROM_TIMM = (
    of_timm("CLIP", "vit_base_patch32_clip_224", (64, 96), num_classes=7),
    of_timm("CLIP", "vit_base_patch32_clip_quickgelu_224", (64, 96), num_classes=7),
    of_timm("SigLIP", "vit_base_patch16_siglip_224", (48, 80), num_classes=0),
    of_timm("SigLIP", "vit_base_patch32_siglip_256", (64, 96), num_classes=0),
    of_timm("DINOv2", "vit_small_patch14_dinov2", (56, 42), num_classes=7),
    of_timm("DINOv2 registers", "vit_giant_patch14_reg4_dinov2", (56, 42), num_classes=7),
    of_timm("DINOv3", "vit_small_patch16_dinov3", (64, 48), num_classes=0),
    of_timm("DINOv3", "vit_small_plus_patch16_dinov3_qkvb", (64, 48), num_classes=0),
    of_timm("DeiT III", "deit3_small_patch16_224", (64, 48), num_classes=7),
    of_timm("EVA-02", "eva02_base_patch14_224", (56, 42), num_classes=7),
    of_timm("Perception Encoder", "vit_pe_core_tiny_patch16_384", (64, 48), num_classes=7),
    of_timm("AIMv2", "aimv2_large_patch14_224", (56, 42), num_classes=0),
    of_timm("registers, gap", "vit_little_patch16_reg4_gap_256", (64, 48), num_classes=7),
)

ROWS = (
    *FROM_TIMM,
    *TOWERS,
    Row("ViT", "HF", "ViTForImageClassification", "ViTConfig", {**VIT, **CLASSES}, VIT_SIZES, forward=INTERPOLATED),
    Row("ViT", "HF", "ViTModel", "ViTConfig", {**VIT, "qkv_bias": False}, VIT_SIZES, forward=INTERPOLATED),
    Row("DeiT", "HF", "DeiTForImageClassification", "DeiTConfig", {**VIT, **CLASSES}, VIT_SIZES, forward=INTERPOLATED),
    Row(
        "DeiT",
        "HF",
        "DeiTForImageClassificationWithTeacher",
        "DeiTConfig",
        {**VIT, **CLASSES},
        VIT_SIZES,
        forward=INTERPOLATED,
    ),
    Row("DeiT", "HF", "DeiTModel", "DeiTConfig", VIT, VIT_SIZES, forward=INTERPOLATED),
    Row("MAE", "HF", "ViTMAEModel", "ViTMAEConfig", {**VIT, "mask_ratio": 0.0}, VIT_SIZES, forward=INTERPOLATED),
    Row("MAE", "HF", "ViTMAEForPreTraining", "ViTMAEConfig", {**VIT, "mask_ratio": 0.0}, VIT_SIZES[:1]),
    Row("DINOv2", "HF", "Dinov2Model", "Dinov2Config", DINOV2, DINOV2_SIZES),
    Row("DINOv2", "HF", "Dinov2Model", "Dinov2Config", {**DINOV2, "use_swiglu_ffn": True}, DINOV2_SIZES),
    Row("DINOv2", "HF", "Dinov2Model", "Dinov2Config", {**DINOV2, "qkv_bias": False, "mlp_ratio": 3}, DINOV2_SIZES),
    Row("DINOv2", "HF", "Dinov2ForImageClassification", "Dinov2Config", {**DINOV2, **CLASSES}, DINOV2_SIZES),
    Row("DINOv2 registers", "HF", "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", DINOV2, DINOV2_SIZES),
    Row(
        "DINOv2 registers",
        "HF",
        "Dinov2WithRegistersForImageClassification",
        "Dinov2WithRegistersConfig",
        {**DINOV2, **CLASSES, "use_swiglu_ffn": True},
        DINOV2_SIZES,
    ),
    Row("DINOv3", "HF", "DINOv3ViTModel", "DINOv3ViTConfig", DINOV3, DINOV3_SIZES),
    Row(
        "DINOv3",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**DINOV3, "use_gated_mlp": True, "hidden_act": "silu", "rope_theta": 77.0},
        DINOV3_SIZES,
    ),
    Row(
        "DINOv3",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**DINOV3, "query_bias": False, "value_bias": False, "proj_bias": False, "mlp_bias": False},
        DINOV3_SIZES,
    ),
    Row(
        "DINOv3",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {**DINOV3, "key_bias": True, "proj_bias": False},
        DINOV3_SIZES,
    ),
    Row("DINOv2 S/14", "HF", "Dinov2Model", "Dinov2Config", {**SMALL, **PUBLISHED_DINOV2}, PUBLISHED_SIZES),
    Row(
        "DINOv2 S/14 registers",
        "HF",
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        {**SMALL, **PUBLISHED_DINOV2},
        PUBLISHED_SIZES,
    ),
    Row(
        "DINOv3 S/16",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {"num_register_tokens": 4},
        ((224, 224), (512, 512), (256, 384)),
    ),
    Row(
        "DINOv3 S+/16",
        "HF",
        "DINOv3ViTModel",
        "DINOv3ViTConfig",
        {"num_register_tokens": 4, "use_gated_mlp": True, "hidden_act": "silu"},
        ((224, 224), (512, 512)),
    ),
)
